//! libFuzzer around one target, which the variable `CAPSA_FUZZ_TARGET` names. `scripts/fuzz` builds and starts it.
#![no_main]

use std::sync::OnceLock;

use capsa_fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("CAPSA_FUZZ_TARGET").unwrap_or_default();
        let target = capsa_fuzz::target(&name).unwrap_or_else(|| panic!("CAPSA_FUZZ_TARGET is {name:?}, no target"));
        TARGET.get_or_init(|| target);
    },
    |data: &[u8]| {
        (TARGET.get().expect("init has chosen it").run)(data)
    }
);
