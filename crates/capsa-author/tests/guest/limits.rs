//! Large inputs, and the allocator at its limits.

use capsa_author::{parse_spec, wat};
use wasmtime::{Engine, Instance, Module, Store, TypedFunc};

use super::{ROUTER, guest, input, text};
use crate::host::{Fields, Value};

#[test]
fn an_input_of_64_kib_works_again_and_again() {
    let mut guest = guest(ROUTER);
    let mut fields: Fields = (0..4000).map(|n| (format!("field_{n:04}"), Value::Flag(true))).collect();
    fields.push(("long".to_owned(), text(&"x".repeat(16_000))));
    fields.push(("urgency".to_owned(), text("high")));
    for _ in 0..200 {
        assert_eq!("unknown|unknown|high", guest.frame(&fields).unwrap()[0].key);
    }
    let numbers = input(&[("n", Value::Numbers(vec![0.5; 8000])), ("t", Value::Texts(vec!["x".to_owned(); 8000]))]);
    assert_eq!("unknown|unknown|unknown", guest.frame(&numbers).unwrap()[0].key);
}

#[test]
fn the_longest_key_and_the_longest_names_fit() {
    let names: Vec<String> = (0..32).map(|n| format!("{n:02}{}", "n".repeat(62))).collect();
    let contexts: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let mut guest =
        guest(&format!("name: g\noptions: [a, b]\ncontexts: [{}]\nreward: {{q: 1}}\n", contexts.join(", ")));
    let mut fields: Fields = names.iter().map(|name| (name.clone(), text(&"|".repeat(64)))).collect();
    assert_eq!(vec!["%7C".repeat(64); 32].join("|"), guest.frame(&fields).unwrap()[0].key);
    // An error in the last context is written behind the rest of the key.
    fields[31].1 = text(&"x".repeat(65));
    assert_eq!(Err(format!("{}: longer than 64 bytes", names[31])), guest.frame(&fields));
    // Longer than any that our host lets through, and than a page.
    let unknown = "u".repeat(200_000);
    assert_eq!(Err(format!("{unknown}: unknown metric")), guest.reward(&input(&[(&unknown, Value::Flag(true))])));
}

#[test]
fn a_key_of_the_longest_labels_fits_behind_an_input_of_any_length() {
    let contexts: Vec<String> =
        (0..32).map(|n| format!("{{name: c{n}, buckets: [-2e-308, -1e-308, 1e308]}}")).collect();
    let mut guest = guest(&format!("name: g\noptions: [a, b]\ncontexts: [{}]\n", contexts.join(", ")));
    let mut fields: Fields = (0..32).map(|n| (format!("c{n}"), Value::Number(-1.5e-308))).collect();
    fields.push(("filler".to_owned(), text("")));
    let label = format!("{}-{}", -2e-308, -1e-308);
    let key = vec![label.as_str(); 32].join("|");
    assert!(key.len() > 19_000);
    for length in (0..140_000).step_by(997) {
        fields[32].1 = text(&"x".repeat(length));
        assert_eq!(key, guest.frame(&fields).unwrap()[0].key, "{length}");
    }
}

/// The guest's core module alone, to call its allocator.
struct Allocator {
    store: Store<()>,
    allocate: TypedFunc<(i32, i32, i32, i32), i32>,
}

impl Allocator {
    fn new() -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, wat::parse_str(wat(&parse_spec(ROUTER).unwrap())).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let allocate = instance.get_typed_func(&mut store, "cabi_realloc").unwrap();
        Self { store, allocate }
    }

    /// The address, or that it trapped.
    fn allocate(&mut self, old: i32, old_size: i32, size: i32) -> Result<u32, ()> {
        self.allocate.call(&mut self.store, (old, old_size, 8, size)).map(|at| at as u32).map_err(|_| ())
    }
}

#[test]
fn the_allocator_aligns_resizes_in_place_and_does_not_overlap() {
    let mut memory = Allocator::new();
    let first = memory.allocate(0, 0, 5).unwrap();
    let second = memory.allocate(0, 0, 100).unwrap();
    assert_eq!((0, 0), (first % 8, second % 8));
    assert!(second >= first + 5);
    assert_eq!(Ok(second), memory.allocate(second as i32, 100, 200_000));
    assert!(memory.allocate(0, 0, 1).unwrap() >= second + 200_000);
}

#[test]
fn the_allocator_grows_to_its_limit_and_then_traps() {
    let mut memory = Allocator::new();
    let got = (0..100).take_while(|_| memory.allocate(0, 0, 1 << 20).is_ok()).count();
    assert_eq!(16, got, "MiB");
    for size in [-1, i32::MIN, i32::MAX, 17 << 20] {
        assert_eq!(Err(()), Allocator::new().allocate(0, 0, size), "{size}");
    }
}
