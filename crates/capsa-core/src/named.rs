//! What callers name: strategies and options, by name or number, turned into numbers.

use crate::definition::{Definition, Strategy, escape, nearest_hint, shown};
use crate::rejected::{Refusal, Rejected};

/// Most names that an error lists.
const SHOWN_NAMES: usize = 12;

/// An option as a caller names it.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionRef {
    /// Its position in the installed version.
    Number(i64),
    /// Its name.
    Name(String),
}

impl std::fmt::Display for OptionRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OptionRef::Number(number) => write!(f, "{number}"),
            OptionRef::Name(name) => f.write_str(name),
        }
    }
}

impl Definition {
    /// The place of the strategy of this name.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownStrategy`].
    pub fn strategy_number(&self, name: &str, pointer: &str) -> Result<usize, Rejected> {
        self.strategies.iter().position(|strategy| strategy.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.strategies.iter().map(|strategy| strategy.name.as_str()).collect();
            let hint = nearest_hint(name, known.iter().copied());
            Rejected::new(
                Refusal::UnknownStrategy,
                pointer,
                name,
                format!("{:?} is not a strategy of {}{hint}", shown(name), self.name),
                format!("use {}", known.join(", ")),
            )
        })
    }

    /// Which options are allowed, all strategies end to end, from what a caller listed by strategy.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownOption`], [`Refusal::UnknownStrategy`], [`Refusal::InvalidField`] for an
    /// empty list.
    pub fn allowed(&self, listed: &[(String, Vec<OptionRef>)]) -> Result<Vec<bool>, Rejected> {
        let mut by_strategy: Vec<Vec<bool>> = self.strategies.iter().map(|s| vec![true; s.options.len()]).collect();
        for (name, options) in listed {
            let pointer = self.pointer("/options", name);
            let at = self.strategy_number(name, &pointer)?;
            if options.is_empty() {
                return Err(Rejected::absent(
                    Refusal::InvalidField,
                    pointer,
                    "options is an empty list",
                    "list the options that are allowed, or leave it out to allow all",
                ));
            }
            by_strategy[at].fill(false);
            for (place, option) in options.iter().enumerate() {
                let number = self.strategies[at].option_number(option, &format!("{pointer}/{place}"))?;
                by_strategy[at][number] = true;
            }
        }
        Ok(by_strategy.concat())
    }

    /// One option of every strategy, from what a caller named by strategy: `current`, `taken`.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownOption`], [`Refusal::UnknownStrategy`], [`Refusal::InvalidField`] where
    /// a strategy is left out.
    pub fn pick(&self, field: &str, named: &[(String, OptionRef)]) -> Result<Vec<usize>, Rejected> {
        let mut picked = vec![None; self.strategies.len()];
        for (name, option) in named {
            let pointer = self.pointer(field, name);
            let at = self.strategy_number(name, &pointer)?;
            picked[at] = Some(self.strategies[at].option_number(option, &pointer)?);
        }
        (picked.into_iter().zip(&self.strategies))
            .map(|(number, strategy)| {
                number.ok_or_else(|| {
                    Rejected::absent(
                        Refusal::InvalidField,
                        field,
                        format!("{} lacks strategy {}", field.trim_start_matches('/'), strategy.name),
                        "name an option of every strategy",
                    )
                })
            })
            .collect()
    }

    fn pointer(&self, field: &str, strategy: &str) -> String {
        if self.strategies.len() == 1 { field.to_owned() } else { format!("{field}/{}", escape(strategy)) }
    }
}

impl Strategy {
    /// The number of an option.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownOption`], with the nearest name.
    pub fn option_number(&self, option: &OptionRef, pointer: &str) -> Result<usize, Rejected> {
        let found = match option {
            OptionRef::Number(number) => usize::try_from(*number).ok().filter(|number| *number < self.options.len()),
            OptionRef::Name(name) => self.options.iter().position(|known| known == name),
        };
        found.ok_or_else(|| {
            let listed: Vec<&str> = self.options.iter().map(String::as_str).take(SHOWN_NAMES).collect();
            let more = if self.options.len() > listed.len() { ", ..." } else { "" };
            let detail = match option {
                OptionRef::Number(number) => {
                    format!("{number} is not an option of strategy {}, which has {}", self.name, self.options.len())
                }
                OptionRef::Name(name) => {
                    let hint = nearest_hint(name, self.options.iter().map(String::as_str));
                    format!("{:?} is not an option of strategy {}{hint}", shown(name), self.name)
                }
            };
            let remedy = format!("use {}{more}, or its number", listed.join(", "));
            Rejected::new(Refusal::UnknownOption, pointer, option, detail, remedy)
        })
    }
}
