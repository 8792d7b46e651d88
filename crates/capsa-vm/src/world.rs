//! Is this component a decision capsule, or a tool? What it exports, imports and needs.
//!
//! Invariants of a component that passes [`check`] or [`check_tool`]:
//! * it exports what its world does, with the types of `wit/capsule.wit`;
//! * it imports functions from nowhere but the world, and its instances need no more than a pool slot has.

use wasmtime::Engine;
use wasmtime::component::types::{Component as ComponentType, ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, Lift, Lower};

use crate::call::{FrameParams, FrameResult, RewardParams, RewardResult};
use crate::grants::Interface;
use crate::host::{MEMORIES_PER_COMPONENT, TABLES_PER_COMPONENT};
use crate::load::LoadError;
use crate::settings::Limits;
use crate::tool::{CompensateParams, CompensateResult, InvokeParams, InvokeResult};

const WASM_PAGE_BYTES: u64 = 64 << 10;

const DECISION: &str = "decision";
const TOOL: &str = "tool";

/// The one function that every world offers.
pub(crate) const LOG: &str = "log";

/// The exports that calls go to.
pub(crate) struct Exports {
    pub(crate) frame: ComponentExportIndex,
    pub(crate) reward: ComponentExportIndex,
}

/// Checks a compiled component against the world and the limits.
pub(crate) fn check(engine: &Engine, component: &Component, limits: &Limits) -> Result<Exports, LoadError> {
    check_needs(component, limits)?;
    let ty = component.component_type();
    check_imports(engine, &ty, DECISION)?;
    Ok(Exports {
        frame: export::<FrameParams<'_>, FrameResult>(engine, component, &ty, DECISION, "frame")?,
        reward: export::<RewardParams<'_>, RewardResult>(engine, component, &ty, DECISION, "reward")?,
    })
}

/// The exports of a tool that calls go to.
#[derive(Clone, Copy)]
pub(crate) struct ToolExports {
    pub(crate) invoke: ComponentExportIndex,
    pub(crate) compensate: Option<ComponentExportIndex>,
}

/// Checks a compiled component against the world `tool` and the limits; gives the interfaces that it imports, too.
pub(crate) fn check_tool(
    engine: &Engine,
    component: &Component,
    limits: &Limits,
) -> Result<(ToolExports, Vec<Interface>), LoadError> {
    check_needs(component, limits)?;
    let ty = component.component_type();
    let imports = check_imports(engine, &ty, TOOL)?;
    let invoke = export::<InvokeParams<'_>, InvokeResult>(engine, component, &ty, TOOL, "invoke")?;
    let compensate = match ty.get_export(engine, "compensate") {
        Some(_) => Some(export::<CompensateParams<'_>, CompensateResult>(engine, component, &ty, TOOL, "compensate")?),
        None => None,
    };
    Ok((ToolExports { invoke, compensate }, imports))
}

fn check_imports(engine: &Engine, ty: &ComponentType, world: &'static str) -> Result<Vec<Interface>, LoadError> {
    let refused = |import: String, kind: &'static str| Err(LoadError::RefusedImport { world, import, kind });
    let mut interfaces = Vec::new();
    for (name, import) in ty.imports(engine) {
        let of_tools = Interface::ALL.into_iter().find(|interface| interface.import() == name);
        match import.ty {
            // Its type is compared when it is linked.
            ComponentItem::ComponentFunc(_) if name == LOG => {}
            ComponentItem::Type(_) => {}
            ComponentItem::ComponentInstance(_) if world == TOOL && of_tools.is_some() => interfaces.extend(of_tools),
            ComponentItem::ComponentInstance(instance) => {
                for (inner, export) in instance.exports(engine) {
                    if !matches!(export.ty, ComponentItem::Type(_)) {
                        return refused(format!("{name}#{inner}"), kind(&export.ty));
                    }
                }
            }
            other => return refused(name.to_owned(), kind(&other)),
        }
    }
    Ok(interfaces)
}

fn export<P, R>(
    engine: &Engine,
    component: &Component,
    ty: &ComponentType,
    world: &'static str,
    name: &'static str,
) -> Result<ComponentExportIndex, LoadError>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let wrong = |reason: String| LoadError::WrongExport { world, export: name, reason };
    let export = ty.get_export(engine, name).ok_or(LoadError::MissingExport { world, export: name })?;
    let func: ComponentFunc = match export.ty {
        ComponentItem::ComponentFunc(func) => func,
        other => return Err(wrong(format!("it is {}, not a function", with_article(kind(&other))))),
    };
    if func.async_() {
        return Err(wrong("it is async".to_owned()));
    }
    func.typecheck::<P, R>(&ty.instance_type()).map_err(|error| wrong(format!("{error:#}")))?;
    component.get_export_index(None, name).ok_or(LoadError::MissingExport { world, export: name })
}

fn check_needs(component: &Component, limits: &Limits) -> Result<(), LoadError> {
    // `None` means imported modules, which `check_imports` refuses next.
    let Some(needs) = component.resources_required() else { return Ok(()) };
    let needed_bytes = needs.max_initial_memory_size.unwrap_or(0).saturating_mul(WASM_PAGE_BYTES);
    if needed_bytes > limits.memory_bytes as u64 {
        return Err(LoadError::MemoryTooLarge { needs: needed_bytes, limit: limits.memory_bytes });
    }
    for (what, needs, limit) in
        [("memories", needs.num_memories, MEMORIES_PER_COMPONENT), ("tables", needs.num_tables, TABLES_PER_COMPONENT)]
    {
        if needs > limit {
            return Err(LoadError::TooDemanding {
                reason: format!("it has {needs} {what}, at most {limit} are possible"),
            });
        }
    }
    Ok(())
}

fn kind(item: &ComponentItem) -> &'static str {
    match item {
        ComponentItem::ComponentFunc(_) | ComponentItem::CoreFunc(_) => "function",
        ComponentItem::Module(_) => "core module",
        ComponentItem::Component(_) => "component",
        ComponentItem::ComponentInstance(_) => "instance",
        ComponentItem::Type(_) => "type",
        ComponentItem::Resource(_) => "resource",
    }
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}
