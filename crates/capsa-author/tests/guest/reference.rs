//! The guest's contract (`src/guest/README.md`) written again, from the definition and the input alone.

use capsa_core::definition::{Context, ContextKind, Definition, Metric};

use crate::host::{Choice, Fields, Value};

pub fn frame(definition: &Definition, input: &Fields) -> Result<Vec<Choice>, String> {
    let segments: Result<Vec<String>, String> = definition.contexts.iter().map(|c| segment(c, input)).collect();
    let key = if definition.contexts.is_empty() { "default".to_owned() } else { segments?.join("|") };
    Ok(definition.strategies.iter().map(|s| Choice { strategy: s.name.clone(), key: key.clone() }).collect())
}

fn find<'a>(fields: &'a Fields, name: &str) -> Option<&'a Value> {
    fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
}

fn segment(context: &Context, input: &Fields) -> Result<String, String> {
    let name = &context.name;
    let Some(value) = find(input, name) else { return Ok("unknown".to_owned()) };
    match (context.kind, value) {
        (ContextKind::Category, Value::Text(text)) => category(context, text),
        (ContextKind::Category, Value::Number(number)) => category(context, &(number + 0.0).to_string()),
        (ContextKind::Category, _) => Err(format!("{name}: not a text or a number")),
        (ContextKind::Number, Value::Number(number)) => {
            let edges = context.buckets.as_ref().unwrap();
            let bucket = edges.iter().filter(|edge| number >= *edge).count();
            Ok(context.bucket_labels()[bucket].clone())
        }
        (ContextKind::Number, _) => Err(format!("{name}: not a number")),
        (ContextKind::Flag, Value::Flag(flag)) => Ok(if *flag { "yes" } else { "no" }.to_owned()),
        (ContextKind::Flag, _) => Err(format!("{name}: not true or false")),
    }
}

fn category(context: &Context, text: &str) -> Result<String, String> {
    if text.len() > 64 {
        return Err(format!("{}: longer than 64 bytes", context.name));
    }
    if context.values.as_ref().is_some_and(|values| !values.iter().any(|value| value == text)) {
        return Ok("other".to_owned());
    }
    Ok(match text {
        "unknown" => "%75nknown".to_owned(),
        "other" => "%6Fther".to_owned(),
        _ => text.replace('%', "%25").replace('|', "%7C"),
    })
}

pub fn reward(definition: &Definition, outcome: &Fields) -> Result<f64, String> {
    let Some(metrics) = &definition.reward else { return Err("no reward is declared".to_owned()) };
    if let Some((name, _)) = outcome.iter().find(|(name, _)| !metrics.contains_key(name)) {
        return Err(format!("{name}: unknown metric"));
    }
    let mut sum = 0.0;
    for (name, metric) in metrics {
        let value = match find(outcome, name) {
            None => return Err(format!("{name}: missing")),
            Some(Value::Number(number)) => *number,
            Some(Value::Flag(flag)) => f64::from(u8::from(*flag)),
            Some(_) => return Err(format!("{name}: not a number")),
        };
        sum += metric.weight * scaled(name, metric, value)?;
    }
    Ok(sum)
}

fn scaled(name: &str, metric: &Metric, value: f64) -> Result<f64, String> {
    let bound = |x: f64| {
        let plain = (x + 0.0).to_string();
        if plain.len() <= 24 { plain } else { format!("{x:e}") }
    };
    match (metric.budget, metric.range) {
        (Some(budget), _) if value >= 0.0 => Ok((value / budget).min(1.0)),
        (Some(_), _) => Err(format!("{name}: below 0")),
        (None, Some([low, high])) if value >= low && value <= high => Ok((value - low) / (high - low)),
        (None, Some([low, high])) => Err(format!("{name}: outside {} to {}", bound(low), bound(high))),
        (None, None) if (0.0..=1.0).contains(&value) => Ok(value),
        (None, None) => Err(format!("{name}: outside 0 to 1")),
    }
}
