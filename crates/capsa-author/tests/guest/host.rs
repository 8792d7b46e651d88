//! A small host over wasmtime's dynamic values: independent of `capsa-vm`.

use wasmtime::component::{Component, Func, Instance, Linker, Val};
use wasmtime::{Config, Engine, Store};

/// One value of a flattened input, as the contract names its kinds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Number(f64),
    Flag(bool),
    Texts(Vec<String>),
    Numbers(Vec<f64>),
}

pub type Fields = Vec<(String, Value)>;

/// What `frame` answers of one choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub strategy: String,
    pub key: String,
}

/// One instance of a component, kept over calls so that resetting its memory is tested too.
pub struct Guest {
    store: Store<()>,
    frame: Func,
    reward: Func,
}

impl Guest {
    pub fn new(component: &[u8]) -> Self {
        let engine = Engine::new(&Config::new()).unwrap();
        let component = Component::new(&engine, component).unwrap();
        let mut store = Store::new(&engine, ());
        let instance: Instance = Linker::new(&engine).instantiate(&mut store, &component).unwrap();
        let frame = instance.get_func(&mut store, "frame").unwrap();
        let reward = instance.get_func(&mut store, "reward").unwrap();
        Self { store, frame, reward }
    }

    pub fn frame(&mut self, input: &Fields) -> Result<Vec<Choice>, String> {
        match call(&mut self.store, self.frame, &[fields(input)]) {
            Ok(Some(value)) => {
                let Val::List(choices) = *value else { panic!("{value:?} is not a list") };
                Ok(choices.into_iter().map(choice).collect())
            }
            Err(Some(value)) => Err(text(*value)),
            other => panic!("{other:?}"),
        }
    }

    pub fn reward(&mut self, outcome: &Fields) -> Result<f64, String> {
        match call(&mut self.store, self.reward, &[fields(outcome), Val::List(vec![])]) {
            Ok(Some(value)) => {
                let Val::Float64(reward) = *value else { panic!("{value:?} is not a number") };
                Ok(reward)
            }
            Err(Some(value)) => Err(text(*value)),
            other => panic!("{other:?}"),
        }
    }
}

fn call(store: &mut Store<()>, func: Func, arguments: &[Val]) -> Result<Option<Box<Val>>, Option<Box<Val>>> {
    let mut results = [Val::Bool(false)];
    func.call(&mut *store, arguments, &mut results).unwrap();
    let [Val::Result(result)] = results else { panic!("not a result") };
    result
}

fn fields(fields: &Fields) -> Val {
    let value = |value: &Value| {
        let (case, payload) = match value {
            Value::Text(text) => ("text", Val::String(text.clone())),
            Value::Number(number) => ("number", Val::Float64(*number)),
            Value::Flag(flag) => ("flag", Val::Bool(*flag)),
            Value::Texts(texts) => ("texts", Val::List(texts.iter().cloned().map(Val::String).collect())),
            Value::Numbers(numbers) => ("numbers", Val::List(numbers.iter().copied().map(Val::Float64).collect())),
        };
        Val::Variant(case.to_owned(), Some(Box::new(payload)))
    };
    Val::List(fields.iter().map(|(name, v)| Val::Tuple(vec![Val::String(name.clone()), value(v)])).collect())
}

fn choice(value: Val) -> Choice {
    let Val::Record(record) = value else { panic!("{value:?} is not a record") };
    let mut record = record.into_iter();
    let mut next = |name: &str| {
        let (found, value) = record.next().unwrap();
        assert_eq!(name, found);
        value
    };
    let choice = Choice { strategy: text(next("strategy")), key: text(next("key")) };
    assert_eq!(Val::List(vec![]), next("features"));
    assert_eq!(Val::Option(None), next("allowed"));
    assert_eq!(Val::List(vec![]), next("candidates"));
    choice
}

fn text(value: Val) -> String {
    let Val::String(text) = value else { panic!("{value:?} is not a text") };
    text
}
