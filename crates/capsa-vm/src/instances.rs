//! How many instances one call of a component makes, counted before anything is compiled.
//!
//! A component that instantiates another ten times, which does the same with a third, and so on, is a thousand bytes that
//! ask for millions of instances: wasmtime lays them all out while it compiles.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef, Parser,
    Payload,
};

/// Most instances, core ones included; toolchains make some dozens.
pub(crate) const MAX_INSTANCES: u64 = 1000;

/// A component whose sections are being read.
#[derive(Default)]
struct Open {
    /// Of each component that it knows by index: how many instances an instance of that one takes, itself included.
    known: Vec<u64>,
    instances: u64,
}

/// The instances of one instance of the component, itself not included. What is malformed is for a validator to tell: `None`.
/// So are components whose parts are not known here, because they come from outside: they count as too many.
pub(crate) fn count(bytes: &[u8]) -> Option<u64> {
    // `None` stands for a module.
    let mut open: Vec<Option<Open>> = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.ok()? {
            Payload::Version { encoding: wasmparser::Encoding::Module, .. } => open.push(None),
            Payload::Version { encoding: wasmparser::Encoding::Component, .. } => open.push(Some(Open::default())),
            Payload::InstanceSection(section) => own(&mut open)?.add(u64::from(section.count())),
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    let made = match instance.ok()? {
                        ComponentInstance::Instantiate { component_index, .. } => known(&open, 0, component_index)?,
                        ComponentInstance::FromExports(_) => 1,
                    };
                    own(&mut open)?.add(made);
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    let found = match alias.ok()? {
                        ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                            known(&open, count, index)?
                        }
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => u64::MAX,
                        _ => continue,
                    };
                    own(&mut open)?.known.push(found);
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    if matches!(import.ok()?.ty, ComponentTypeRef::Component(_)) {
                        own(&mut open)?.known.push(u64::MAX);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.ok()?;
                    if export.kind == ComponentExternalKind::Component {
                        // It is known by another index, too.
                        let exported = known(&open, 0, export.index)?;
                        own(&mut open)?.known.push(exported);
                    }
                }
            }
            Payload::End(_) => {
                let Some(ended) = open.pop()? else { continue };
                match open.last_mut() {
                    Some(around) => around.as_mut()?.known.push(ended.instances.saturating_add(1)),
                    None => return Some(ended.instances),
                }
            }
            _ => {}
        }
    }
    None
}

impl Open {
    fn add(&mut self, made: u64) {
        self.instances = self.instances.saturating_add(made);
    }
}

/// The component that is being read.
fn own(open: &mut [Option<Open>]) -> Option<&mut Open> {
    open.last_mut()?.as_mut()
}

/// What an instance takes of the component with an index in the one that is `outer` components around the present one.
fn known(open: &[Option<Open>], outer: u32, index: u32) -> Option<u64> {
    let around = open.len().checked_sub(1)?.checked_sub(outer as usize)?;
    open.get(around)?.as_ref()?.known.get(index as usize).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn counted(text: &str) -> Option<u64> {
        count(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn instances_of_instances_are_counted() {
        assert_eq!(counted("(component)"), Some(0));
        assert_eq!(counted("(component (core module $m) (core instance (instantiate $m)))"), Some(1));
        let twice = "(component $c (core module $m) (core instance (instantiate $m)) (core instance (instantiate $m)))";
        // Three instances of `$c`, each with two of `$m`.
        let thrice = "(instance (instantiate $c))".repeat(3);
        assert_eq!(counted(&format!("(component {twice} {thrice})")), Some(9));
        // By an alias from inside, and by the index that an export makes.
        assert_eq!(
            counted(&format!(
                "(component {twice} (component $d (alias outer 1 $c (component $e)) (instance (instantiate $e))) (instance (instantiate $d)))"
            )),
            Some(4)
        );
        assert_eq!(
            counted(&format!("(component {twice} (export $e \"e\" (component $c)) (instance (instantiate $e)))")),
            Some(3)
        );
    }

    #[test]
    fn what_multiplies_saturates() {
        let mut inner = "(component $c0)".to_owned();
        for level in 1..=30 {
            let made = format!("(instance (instantiate $c{}))", level - 1).repeat(10);
            inner = format!("(component $c{level} {inner} {made})");
        }
        assert_eq!(counted(&format!("(component {inner} (instance (instantiate $c30)))")), Some(u64::MAX));
    }

    #[test]
    fn components_from_elsewhere_are_too_many() {
        let text = r#"(component (component $c (import "x" (component $x)) (instance (instantiate $x)))
            (component $d) (instance (instantiate $c (with "x" (component $d)))))"#;
        assert_eq!(counted(text), Some(u64::MAX));
        let text = r#"(component (component $c (component $d) (export "d" (component $d)))
            (instance $i (instantiate $c)) (alias export $i "d" (component $e)) (instance (instantiate $e)))"#;
        assert_eq!(counted(text), Some(u64::MAX));
    }

    #[test]
    fn what_is_malformed_is_not_counted() {
        assert_eq!(count(b""), None);
        assert_eq!(count(b"\0asm\x0d\0\x01\0\x05\x02\x01"), None);
    }
}
