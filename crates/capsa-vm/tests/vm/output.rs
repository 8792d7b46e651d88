//! What a guest answers is checked before anybody sees it.

use capsa_vm::{BadOutput, CallError, Limits};

use crate::guests::{Guest, assert_still_serves, frame_error, host, load};

fn bad_frame(frame: &'static str, more: &'static str) -> BadOutput {
    match frame_error(&Guest { frame, more, ..Guest::default() }) {
        CallError::BadOutput(bad) => bad,
        other => panic!("{other:?}"),
    }
}

fn abi_reason(frame: &'static str, more: &'static str) -> String {
    match bad_frame(frame, more) {
        BadOutput::Abi { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn results_outside_the_canonical_abi_are_refused() {
    assert_eq!(abi_reason("i32.const 0x7ffffff0", ""), "pointer out of bounds of memory");
    assert_eq!(abi_reason("i32.const 65", ""), "return pointer not aligned");
    assert_eq!(abi_reason("i32.const 64", r#"(data (i32.const 64) "\05")"#), "invalid expected discriminant");
    // A list of 2^28 choices, more than the memory could hold.
    assert_eq!(
        abi_reason("i32.const 64", r#"(data (i32.const 72) "\00\00\00\10")"#),
        "list pointer/length out of bounds of memory"
    );
    assert!(abi_reason("i32.const 64", r#"(data (i32.const 17) "\ff")"#).contains("invalid utf-8"));
    assert!(abi_reason("i32.const 64", r#"(data (i32.const 152) "\02")"#).contains("discriminant"));
}

#[test]
fn an_answer_larger_than_the_limit_is_refused_before_it_is_copied() {
    let guest = |features| Guest {
        // The features of the choice begin at 4096.
        memory: r#"(memory (export "memory") 32)"#,
        frame: features,
        more: r#"(data (i32.const 144) "\00\10\00\00")"#,
        ..Guest::default()
    };
    let limit = Limits::default().output_bytes;
    let too_many = guest("(i32.store (i32.const 148) (i32.const 0x40000)) i32.const 64");
    assert_eq!(frame_error(&too_many), CallError::BadOutput(BadOutput::TooLarge { limit }));

    let many = guest("(i32.store (i32.const 148) (i32.const 0x3ff00)) i32.const 64");
    assert_eq!(load(&host(), &many).frame(&[]).unwrap().choices[0].features.len(), 0x3ff00);
}

#[test]
fn a_feature_that_is_not_finite_is_refused() {
    let nan = r#"(data (i32.const 144) "\00\01\00\00\01\00\00\00") (data (i32.const 256) "\00\00\c0\7f")"#;
    let bad = bad_frame("i32.const 64", nan);
    assert!(matches!(bad, BadOutput::FeatureNotFinite { index: 0, .. }), "{bad:?}");
}

#[test]
fn a_reward_must_be_finite() {
    let host = host();
    for (bits, value) in
        [("\\00\\00\\00\\00\\00\\00\\f0\\7f", f64::INFINITY), ("\\00\\00\\00\\00\\00\\00\\f8\\7f", f64::NAN)]
    {
        let more = Box::leak(format!(r#"(data (i32.const 200) "{bits}")"#).into_boxed_str());
        let error = load(&host, &Guest { more, ..Guest::default() }).reward(&[], &[]).unwrap_err().error;
        match error {
            CallError::BadOutput(BadOutput::RewardNotFinite { value: got }) => {
                assert_eq!(got.to_string(), value.to_string());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_still_serves(&host);
}

#[test]
fn a_refusal_is_the_guests_own_text_up_to_a_length() {
    // An error result: discriminant 1, then the text's pointer and length.
    let refusing = |more| Guest { more, ..Guest::default() };
    let error = frame_error(&refusing(
        r#"(data (i32.const 64) "\01\00\00\00" "\00\01\00\00" "\05\00\00\00") (data (i32.const 256) "no \c3\a9")"#,
    ));
    assert_eq!(error, CallError::Refused("no é".to_owned()));
    assert_eq!(error.to_string(), "the capsule refused: no é");

    let long = Guest {
        memory: r#"(memory (export "memory") 2)"#,
        ..refusing(r#"(data (i32.const 64) "\01\00\00\00" "\00\10\00\00" "\00\80\00\00")"#)
    };
    assert_eq!(frame_error(&long), CallError::Refused(format!("{}…", "\0".repeat(4096))));
}
