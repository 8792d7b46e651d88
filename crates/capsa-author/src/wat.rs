//! From a definition to the guest's WebAssembly text: what `--wat-out` shows.
//!
//! The fixed parts are the files of `guest/`; this module chooses those that a definition needs,
//! lays out its constants and writes the two exported functions. What the guest answers, error
//! sentences included, is specified in `guest/README.md`.
//!
//! Invariants:
//! * the text depends on the definition alone, so equal definitions give equal bytes;
//! * whatever an author wrote reaches the text only as escaped bytes or an escaped comment.

use capsa_core::definition::{Context, ContextKind, Definition, Metric};

use crate::data::Data;

/// Where the answer of a call stands.
const RESULT: u32 = 0;
/// Bytes of the larger of the two answers.
const RESULT_BYTES: u32 = 16;
/// Bytes of one `choice` record.
const CHOICE_BYTES: u32 = 44;
/// Bytes that `decimal.wat` works on, from 0; what it leaves there is free for the answer.
const DECIMAL_BYTES: u32 = 4 * 64;
/// 64 KiB pages that a guest may grow by: 16 MiB, many times the largest input.
const GROWTH_PAGES: u32 = 256;

/// The fixed texts, by the placeholder that the parts name them with.
const TEXTS: [(&str, &str); 14] = [
    ("default", "default"),
    ("unknown", "unknown"),
    ("other", "other"),
    ("yes", "yes"),
    ("no", "no"),
    ("not_category", ": not a text or a number"),
    ("not_number", ": not a number"),
    ("not_flag", ": not true or false"),
    ("too_long", ": longer than 64 bytes"),
    ("missing", ": missing"),
    ("unknown_metric", ": unknown metric"),
    ("outside_share", ": outside 0 to 1"),
    ("below_zero", ": below 0"),
    ("no_reward", "no reward is declared"),
];

/// The guest of a definition as WebAssembly text, with comments that say what each part does.
///
/// The definition has to be a valid one ([`Definition::filled`] accepts it); the text of another
/// may not assemble.
pub fn wat(definition: &Definition) -> String {
    let category = has(definition, ContextKind::Category);
    let start = if category { DECIMAL_BYTES } else { RESULT_BYTES };
    let mut data = Data::at(start);
    let metrics: Vec<&str> = definition.reward.iter().flatten().map(|(name, _)| name.as_str()).collect();
    // Lists first: their texts are then found where the same text is needed alone.
    let metric_list = data.list(&metrics);
    let reserved = if category { data.list(&["unknown", "other"]) } else { 0 };
    let frame = frame(definition, &mut data);
    let reward = reward(definition, &mut data);
    let mut parts = parts(definition);
    parts.push(frame);
    parts.push(reward);
    let body = fill(&parts.join("\n"), |key| match key {
        "reserved" => Some(reserved),
        "metrics" => Some(metric_list),
        "escapes" => Some(data.escapes()),
        _ => TEXTS.iter().find(|(name, _)| *name == key).map(|(_, text)| data.text(text)),
    });

    // What needs room but no bytes comes after the constants.
    let strategies: Vec<&str> = definition.strategies.iter().map(|s| s.name.as_str()).collect();
    let choices = data.choices(&strategies, CHOICE_BYTES);
    let heap = (choices + CHOICE_BYTES * strategies.len() as u32).next_multiple_of(8);
    let body = fill(&body, |key| match key {
        "result" => Some(RESULT),
        "choices" => Some(choices),
        "heap" => Some(heap),
        _ => None,
    });

    // Two pages beyond the constants, so that a usual call does not grow the memory.
    let pages = heap / 65_536 + 2;
    let most = pages + GROWTH_PAGES;
    format!(
        "{}(module
  (memory (export \"memory\") {pages} {most})
  (global $heap (mut i32) (i32.const {heap}))  ;; where free memory begins
  (global $at (mut i32) (i32.const 0))         ;; where the next text is written
  (global $error (mut i32) (i32.const 0))      ;; the first error's sentence; 0 = none
  (global $error_length (mut i32) (i32.const 0))
  (global $fields (mut i32) (i32.const 0))     ;; the input, or the outcome, of this call
  (global $fields_end (mut i32) (i32.const 0))

{body}
  ;; --- constants: texts, lists of texts (an empty one ends them), bucket edges and labels ---
  (data (i32.const {start})
{}  ))
",
        header(definition),
        data.lines(),
    )
}

/// Who this is, in comments.
fn header(definition: &Definition) -> String {
    let mut out = format!(";; The decision capsule {}.\n", comment(&definition.name));
    for strategy in &definition.strategies {
        let options: Vec<String> = strategy.options.iter().map(|option| comment(option)).collect();
        out += &format!(";; Strategy {}: {}.\n", comment(&strategy.name), options.join(", "));
    }
    out += ";; The host draws; this guest only names the context and values outcomes.\n";
    out
}

fn has(definition: &Definition, kind: ContextKind) -> bool {
    definition.contexts.iter().any(|context| context.kind == kind)
}

fn has_values(definition: &Definition) -> bool {
    definition.contexts.iter().any(|context| context.values.is_some())
}

/// The fixed parts that a definition needs, in the order in which they stand in the text.
fn parts(definition: &Definition) -> Vec<String> {
    let metric = |fits: fn(&Metric) -> bool| definition.reward.iter().flatten().any(|(_, metric)| fits(metric));
    let (any_metric, any_context) = (metric(|_| true), !definition.contexts.is_empty());
    let category = has(definition, ContextKind::Category);
    let (values_param, values_check) = if has_values(definition) {
        (" (param $values i32)", include_str!("guest/values_check.wat").trim_end())
    } else {
        ("", "")
    };
    let category_text = include_str!("guest/category.wat")
        .replace("{{values_param}}", values_param)
        .replace("{{values_check}}", values_check);
    [
        (true, include_str!("guest/memory.wat")),
        (category || definition.contexts.len() > 1, include_str!("guest/byte.wat")),
        (any_context || any_metric, include_str!("guest/fields.wat")),
        (category || any_metric, include_str!("guest/one_of.wat")),
        (category, category_text.as_str()),
        (category, include_str!("guest/decimal.wat")),
        (has(definition, ContextKind::Number), include_str!("guest/number.wat")),
        (has(definition, ContextKind::Flag), include_str!("guest/flag.wat")),
        (any_metric, include_str!("guest/metric.wat")),
        (metric(|m| m.budget.is_none() && m.range.is_none()), include_str!("guest/share.wat")),
        (metric(|m| m.range.is_some()), include_str!("guest/range.wat")),
        (metric(|m| m.budget.is_some()), include_str!("guest/budget.wat")),
    ]
    .into_iter()
    .filter(|(needed, _)| *needed)
    .map(|(_, text)| text.to_owned())
    .collect()
}

/// The exported `frame`, its fixed addresses as placeholders.
fn frame(definition: &Definition, data: &mut Data) -> String {
    let mut out = String::from(
        "  ;; --- frame: the context key, then one choice per strategy ------------------------------
  (func (export \"frame\") (param $input i32) (param $count i32) (result i32)
    (local $key i32)
",
    );
    out += "    (call $begin (local.get $input) (local.get $count))\n";
    out += "    (local.set $key (global.get $at))\n";
    for (at, context) in definition.contexts.iter().enumerate() {
        if at > 0 {
            out += "    (call $byte (i32.const 124))                           ;; |\n";
        }
        let call = context_call(context, has_values(definition), data);
        out += &format!("    {call:<54} ;; {}\n", comment(&context.name));
    }
    if definition.contexts.is_empty() {
        out += "    (call $say (i32.const {{default}}))\n";
    }
    for (at, strategy) in definition.strategies.iter().enumerate() {
        let key = 8 + CHOICE_BYTES * at as u32;
        let length = key + 4;
        out += &format!(
            "    (i32.store offset={key} (i32.const {{{{choices}}}}) (local.get $key)) ;; {}\n",
            comment(&strategy.name)
        );
        out += &format!(
            "    (i32.store offset={length} (i32.const {{{{choices}}}}) (i32.sub (global.get $at) (local.get $key)))\n"
        );
    }
    let (payload, count) = (RESULT + 4, definition.strategies.len());
    out + &format!(
        "    (i32.store (i32.const {payload}) (i32.const {{{{choices}}}}))
    (i32.store offset=4 (i32.const {payload}) (i32.const {count}))
    (call $answer (i32.const {payload})))
"
    )
}

/// The call that adds one context's segment to the key.
fn context_call(context: &Context, with_values: bool, data: &mut Data) -> String {
    let name = data.text(&context.name);
    match context.kind {
        ContextKind::Category if with_values => {
            let values = context.values.as_ref().map_or(0, |values| {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                data.list(&values)
            });
            format!("(call $category (i32.const {name}) (i32.const {values}))")
        }
        ContextKind::Category => format!("(call $category (i32.const {name}))"),
        ContextKind::Number => {
            let edges = context.buckets.as_deref().unwrap_or_default();
            let buckets = data.buckets(edges, &context.bucket_labels());
            format!("(call $number (i32.const {name}) (i32.const {buckets}) (i32.const {}))", edges.len())
        }
        ContextKind::Flag => format!("(call $flag (i32.const {name}))"),
    }
}

/// The exported `reward`, its fixed addresses as placeholders.
fn reward(definition: &Definition, data: &mut Data) -> String {
    let mut out = String::from(
        "  ;; --- reward: 0, plus weight times scaled metric for each, in ascending order of names --
  (func (export \"reward\")
    (param $outcome i32) (param $count i32) (param $made i32) (param $made_count i32) (result i32)
",
    );
    let payload = RESULT + 8;
    match &definition.reward {
        Some(metrics) if !metrics.is_empty() => {
            out += "    (local $zero f64)
    (call $begin (local.get $outcome) (local.get $count))
    (call $check_names)\n";
            out += &format!("    i32.const {payload}\n    local.get $zero\n");
            for (name, metric) in metrics {
                let scaled = scaled_call(name, metric, data);
                let weight = number(metric.weight);
                out += &format!("    (f64.mul {weight} {scaled}) f64.add ;; {}\n", comment(name));
            }
            out += "    f64.store\n";
        }
        _ => {
            out += "    (call $begin (local.get $outcome) (local.get $count))
    (call $fail (i32.const 0) (i32.const 0) (i32.const {{no_reward}}))\n";
        }
    }
    out + &format!("    (call $answer (i32.const {payload})))\n")
}

/// The call that gives one metric scaled to 0..1.
fn scaled_call(name: &str, metric: &Metric, data: &mut Data) -> String {
    let at = data.text(name);
    match (metric.budget, metric.range) {
        (Some(budget), _) => format!("(call $of_budget (i32.const {at}) {})", number(budget)),
        (None, Some([low, high])) => {
            let outside = data.text(&format!(": outside {} to {}", shown(low), shown(high)));
            format!("(call $in_range (i32.const {at}) {} {} (i32.const {outside}))", number(low), number(high))
        }
        (None, None) => format!("(call $share (i32.const {at}))"),
    }
}

/// A constant; a small whole number in its shorter form.
fn number(value: f64) -> String {
    let whole = value as i32;
    if f64::from(whole).to_bits() == value.to_bits() {
        format!("(f64.convert_i32_s (i32.const {whole}))")
    } else {
        format!("(f64.const {value:?})")
    }
}

/// A number in a sentence: a plain decimal, unless that is long.
fn shown(value: f64) -> String {
    // `+ 0.0` turns -0 into 0.
    let plain = format!("{}", value + 0.0);
    if plain.len() <= 24 { plain } else { format!("{value:e}") }
}

/// What an author wrote, as a part of a comment: one line of plain characters, no placeholder.
pub(crate) fn comment(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let plain = (c.is_ascii_graphic() || c == ' ') && c != '{';
            (if plain { Some(c) } else { None }).into_iter().chain(c.escape_unicode().filter(move |_| !plain))
        })
        .collect()
}

/// The text with every `{{key}}` that `address` knows replaced.
fn fill(text: &str, mut address: impl FnMut(&str) -> Option<u32>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        out += before;
        let (key, next) = after.split_once("}}").expect("placeholders are closed and authors' text holds none");
        match address(key) {
            Some(address) => out += &address.to_string(),
            None => out += &format!("{{{{{key}}}}}"),
        }
        rest = next;
    }
    out + rest
}
