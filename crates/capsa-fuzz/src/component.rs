//! Whatever someone installs: any bytes, as a decision capsule and as a tool.

use capsa_core::world::{Made, Value};
use capsa_vm::CallError;

use crate::tool::{call_both, host};

pub(crate) fn run(data: &[u8]) {
    let inspected = capsa_author::inspect(data);
    let decision = host().load(data);
    let tool = host().load_tool(data);
    if let Ok(component) = &decision {
        assert!(inspected.is_ok(), "what runs can be read: {inspected:?}");
        assert_eq!(component.digest(), capsa_core::cbor::digest(data));
        let input = [
            ("text".to_owned(), Value::Text("a|b".to_owned())),
            ("number".to_owned(), Value::Number(-0.5)),
            ("flag".to_owned(), Value::Flag(true)),
            ("texts".to_owned(), Value::Texts(vec!["x".to_owned()])),
        ];
        let made = [Made {
            strategy: "choice".to_owned(),
            option: "a".to_owned(),
            key: "k".to_owned(),
            propensity: Some(0.5),
        }];
        let faults =
            [component.frame(&input).err(), component.frame(&[]).err(), component.reward(&input[1..2], &made).err()];
        for failed in faults.into_iter().flatten() {
            assert!(!matches!(failed.error, CallError::Host { .. } | CallError::Busy { .. }), "{failed}");
        }
    }
    if let Ok(component) = &tool {
        assert!(inspected.is_ok(), "what runs can be read: {inspected:?}");
        call_both(component, r#"{"a":[1,"b"]}"#);
    }
    // A definition can be put into whatever loads, and it loads as before.
    if decision.is_ok() || tool.is_ok() {
        let definition = serde_json::json!({"schema": 1});
        if let Ok(embedded) = capsa_author::embed_tool_definition(data, &definition) {
            assert_eq!(host().load_tool(&embedded).is_ok(), tool.is_ok());
        }
    }
}
