//! The values that cross the boundary to a decision capsule, as `wit/capsule.wit` names them.

/// One value of a flattened input.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A finite number.
    Number(f64),
    /// A boolean.
    Flag(bool),
    /// A list of strings; also the empty list.
    Texts(Vec<String>),
    /// A list of finite numbers.
    Numbers(Vec<f64>),
}

/// A flattened input: unique names in the sender's order.
pub type Fields = Vec<(String, Value)>;

/// An option that exists for one call only.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Unique within the choice.
    pub name: String,
    /// What describes it.
    pub features: Vec<f32>,
}

/// One choice that a capsule asks the host to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The strategy of the definition.
    pub strategy: String,
    /// The context key.
    pub key: String,
    /// What describes this call; empty where the capsule learns by key alone.
    pub features: Vec<f32>,
    /// Which declared options may be chosen; `None` = all.
    pub allowed: Option<Vec<bool>>,
    /// Options of this call; empty = the declared ones.
    pub candidates: Vec<Candidate>,
}

/// A choice that was made, given to a capsule's `reward`.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The strategy of the definition.
    pub strategy: String,
    /// The option that was carried out.
    pub option: String,
    /// The context key.
    pub key: String,
    /// The probability with which it was drawn; `None` where the host did not draw it.
    pub propensity: Option<f64>,
}
