//! Durations as an author writes them: `7d`, `24h`, `500ms`.

/// Units and their seconds.
const UNITS: [(&str, f64); 6] =
    [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0), ("w", 604_800.0)];

/// The seconds of a duration: a decimal number and, right behind it, its unit.
///
/// # Errors
///
/// One sentence with the offending text and the remedy.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let is_decimal = number.starts_with(|c: char| c.is_ascii_digit());
    let value = if is_decimal { number.parse::<f64>().ok() } else { None };
    let unit_seconds = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, seconds)| *seconds);
    match (value, unit_seconds) {
        (Some(value), Some(seconds)) => Ok(value * seconds),
        (Some(_), None) if unit.is_empty() => {
            Err(format!("{text} has no unit; write {text}s, {text}m, {text}h, {text}d or {text}w"))
        }
        _ => Err(format!(
            "{:?} is not a duration; write a number and ms, s, m, h, d or w, for example 7d",
            capsa_core::definition::shown(text)
        )),
    }
}
