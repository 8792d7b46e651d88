//! Learners for who has no store.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use capsa_core::definition::{Algorithm, MAX_CONTEXTS, Prior, shown};
use capsa_core::tabular::{Settings, Tabular, Unfit};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple};

use crate::arrays::{self, Array};

/// A learner of one choice.
#[pyclass(module = "capsa.learners", subclass, frozen)]
pub struct Learner {
    inner: Mutex<Tabular>,
    names: Vec<String>,
}

impl Learner {
    fn new(settings: Settings) -> PyResult<Self> {
        Ok(Self::of(Tabular::new(settings).map_err(value_error)?))
    }

    fn of(tabular: Tabular) -> Self {
        let names = tabular.settings().options.clone();
        Self { inner: Mutex::new(tabular), names }
    }

    fn lock(&self) -> MutexGuard<'_, Tabular> {
        // A panic while it was held would be a bug of ours; what was learned is whole between calls.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A short call: another thread's long one is waited for without the interpreter.
    fn brief<T: Send>(&self, py: Python<'_>, call: impl FnOnce(&mut Tabular) -> T + Send) -> T {
        match self.inner.try_lock() {
            Ok(mut inner) => call(&mut inner),
            Err(TryLockError::Poisoned(poisoned)) => call(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => py.detach(|| call(&mut self.lock())),
        }
    }

    fn option(&self, option: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Ok(name) = option.cast::<PyString>() {
            let name = name.to_cow()?;
            return (self.names.iter().position(|known| *known == name))
                .ok_or_else(|| PyKeyError::new_err(format!("{:?} is not an option", shown(&name))));
        }
        if !is_integer(option)? {
            let kind = option.get_type().name()?;
            return Err(PyTypeError::new_err(format!("an option is its number or its name, not {kind}")));
        }
        let number = option.extract::<usize>().ok().filter(|&number| number < self.names.len());
        number.ok_or_else(|| {
            let number = shown(&option.to_string());
            PyValueError::new_err(format!("option {number} does not exist; use 0 to {}", self.names.len() - 1))
        })
    }

    fn option_list(&self, options: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
        let at = |(at, option): (usize, Bound<'_, PyAny>)| {
            self.option(&option).map_err(|error| with_place(options.py(), &error, "options", at))
        };
        if let Ok(list) = options.cast::<PyList>() {
            return list.iter().enumerate().map(at).collect();
        }
        let (array, kind) = arrays::asarray(options)?;
        if "UO".contains(kind) && array.getattr("ndim")?.extract::<usize>()? == 1 {
            return array.call_method0("tolist")?.try_iter()?.enumerate().map(|(i, option)| at((i, option?))).collect();
        }
        let Array { data, shape } = arrays::integers(&array, "options")?;
        if shape.len() != 1 {
            return Err(PyValueError::new_err(format!("options has the shape {shape:?}, expected one dimension")));
        }
        (data.into_iter().enumerate())
            .map(|(at, number)| {
                usize::try_from(number).ok().filter(|&number| number < self.names.len()).ok_or_else(|| {
                    let most = self.names.len() - 1;
                    PyValueError::new_err(format!("options[{at}]: option {number} does not exist; use 0 to {most}"))
                })
            })
            .collect()
    }
}

#[pymethods]
impl Learner {
    #[pyo3(signature = (key=None, allowed=None))]
    fn decide(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        allowed: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(usize, f64)> {
        let allowed = allowed.map(|allowed| arrays::allowed(allowed, self.names.len())).transpose()?;
        with_key(key, |key| self.brief(py, |inner| inner.decide(key, allowed.as_deref())))?.map_err(value_error)
    }

    #[pyo3(signature = (option, reward, key=None))]
    fn update(
        &self,
        py: Python<'_>,
        option: &Bound<'_, PyAny>,
        reward: &Bound<'_, PyAny>,
        key: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let option = self.option(option)?;
        let reward = match reward.cast::<PyFloat>() {
            Ok(reward) => reward.value(),
            Err(_) => arrays::number(reward, "reward")?,
        };
        with_key(key, |key| self.brief(py, |inner| inner.update(key, option, reward)))?.map_err(value_error)
    }

    #[pyo3(signature = (key=None, allowed=None))]
    fn probabilities<'py>(
        &self,
        py: Python<'py>,
        key: Option<&Bound<'py, PyAny>>,
        allowed: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let allowed = allowed.map(|allowed| arrays::allowed(allowed, self.names.len())).transpose()?;
        let call = |inner: &mut Tabular, key: &str| inner.probabilities(key, allowed.as_deref()).map(<[f64]>::to_vec);
        let found = with_key(key, |key| self.brief(py, |inner| call(inner, key)))?.map_err(value_error)?;
        arrays::array(py, &found, &[found.len()], "float64")
    }

    #[pyo3(signature = (keys, allowed=None))]
    fn decide_batch<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        allowed: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (keys, allowed) = self.rows(keys, allowed)?;
        let width = self.names.len();
        let (options, propensities) = py
            .detach(|| -> Result<_, String> {
                let mut inner = self.lock();
                check_rows(&inner, &keys, allowed.as_deref())?;
                let mut options = Vec::with_capacity(keys.len());
                let mut propensities = Vec::with_capacity(keys.len());
                for (row, key) in keys.iter().enumerate() {
                    let drawn = inner.decide(key, row_of(allowed.as_deref(), row, width));
                    let (option, propensity) = drawn.map_err(|unfit| in_row(row, &unfit))?;
                    options.push(option as u32);
                    propensities.push(propensity);
                }
                Ok((options, propensities))
            })
            .map_err(PyValueError::new_err)?;
        let rows = [options.len()];
        Ok((arrays::array(py, &options, &rows, "uint32")?, arrays::array(py, &propensities, &rows, "float64")?))
    }

    #[pyo3(signature = (keys, allowed=None))]
    fn probabilities_batch<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        allowed: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (keys, allowed) = self.rows(keys, allowed)?;
        let width = self.names.len();
        let found = py
            .detach(|| -> Result<_, String> {
                let mut inner = self.lock();
                let mut found = Vec::with_capacity(keys.len() * width);
                for (row, key) in keys.iter().enumerate() {
                    let shares = inner.probabilities(key, row_of(allowed.as_deref(), row, width));
                    found.extend_from_slice(shares.map_err(|unfit| in_row(row, &unfit))?);
                }
                Ok(found)
            })
            .map_err(PyValueError::new_err)?;
        arrays::array(py, &found, &[keys.len(), width], "float64")
    }

    #[pyo3(signature = (options, rewards, keys=None))]
    fn update_batch(
        &self,
        py: Python<'_>,
        options: &Bound<'_, PyAny>,
        rewards: &Bound<'_, PyAny>,
        keys: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let options = self.option_list(options)?;
        let rewards = arrays::float_row(rewards, "rewards", options.len())?;
        let keys = match keys {
            Some(keys) => key_list(keys)?,
            None => vec![String::new(); options.len()],
        };
        if keys.len() != options.len() {
            let (keys, options) = (keys.len(), options.len());
            return Err(PyValueError::new_err(format!("{keys} keys for {options} options")));
        }
        py.detach(|| {
            let mut inner = self.lock();
            let rows = || keys.iter().zip(&options).zip(&rewards);
            for (row, ((key, &option), &reward)) in rows().enumerate() {
                inner.check_update(key, option, reward).map_err(|unfit| in_row(row, &unfit))?;
            }
            for ((key, &option), &reward) in rows() {
                inner.update(key, option, reward).expect("checked above");
            }
            Ok(())
        })
        .map_err(PyValueError::new_err::<String>)
    }

    fn save<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes = py.detach(|| self.lock().save());
        PyBytes::new(py, &bytes)
    }

    #[staticmethod]
    fn load(py: Python<'_>, blob: &[u8]) -> PyResult<Py<PyAny>> {
        let tabular = py.detach(|| Tabular::load(blob)).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let algorithm = tabular.settings().algorithm;
        let base = PyClassInitializer::from(Learner::of(tabular));
        Ok(match algorithm {
            Algorithm::Thompson => Py::new(py, base.add_subclass(Thompson))?.into_any(),
            Algorithm::SimpleWeighted => Py::new(py, base.add_subclass(SimpleWeighted))?.into_any(),
            Algorithm::EpsilonGreedy { .. } => Py::new(py, base.add_subclass(EpsilonGreedy))?.into_any(),
            Algorithm::Ucb1 => Py::new(py, base.add_subclass(Ucb1))?.into_any(),
        })
    }

    fn keys(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| self.lock().keys())
    }

    #[getter]
    fn state_hash(&self, py: Python<'_>) -> String {
        py.detach(|| self.lock().state_hash())
    }

    #[getter]
    fn n_options(&self) -> usize {
        self.names.len()
    }

    #[getter]
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    #[getter]
    fn algorithm(&self, py: Python<'_>) -> &'static str {
        self.brief(py, |inner| inner.settings().algorithm.name())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let (algorithm, keys) = self.brief(py, |inner| (inner.settings().algorithm.name(), inner.held()));
        format!("<{algorithm} learner of {} options, {keys} keys>", self.names.len())
    }
}

impl Learner {
    fn rows(
        &self,
        keys: &Bound<'_, PyAny>,
        allowed: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(Vec<String>, Option<Vec<bool>>)> {
        let keys = key_list(keys)?;
        let allowed = allowed.map(|allowed| arrays::allowed_rows(allowed, keys.len(), self.names.len())).transpose()?;
        Ok((keys, allowed))
    }
}

/// Before the first draw, so that a batch is drawn whole or not at all.
fn check_rows(inner: &Tabular, keys: &[String], allowed: Option<&[bool]>) -> Result<(), String> {
    (keys.iter().enumerate()).try_for_each(|(row, key)| {
        inner.check(key, row_of(allowed, row, inner.len())).map_err(|unfit| in_row(row, &unfit))
    })
}

fn row_of(allowed: Option<&[bool]>, row: usize, width: usize) -> Option<&[bool]> {
    allowed.map(|allowed| &allowed[row * width..(row + 1) * width])
}

fn in_row(row: usize, unfit: &Unfit) -> String {
    format!("row {row}: {unfit}")
}

fn value_error(unfit: Unfit) -> PyErr {
    PyValueError::new_err(unfit.0)
}

fn with_place(py: Python<'_>, error: &PyErr, what: &str, at: usize) -> PyErr {
    let words = format!("{what}[{at}]: {}", error.value(py));
    if error.is_instance_of::<PyTypeError>(py) { PyTypeError::new_err(words) } else { PyValueError::new_err(words) }
}

fn is_integer(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    if value.is_instance_of::<PyInt>() {
        return Ok(!value.is_instance_of::<PyBool>());
    }
    // An array has an index, too, if it holds one number.
    Ok(value.hasattr("__index__")? && !value.hasattr("__len__")?)
}

/// Runs a call with a key: a text, or a whole number, which is the same key as its digits.
fn with_key<T>(key: Option<&Bound<'_, PyAny>>, call: impl FnOnce(&str) -> T) -> PyResult<T> {
    let Some(key) = key else { return Ok(call("")) };
    if let Ok(text) = key.cast::<PyString>() {
        return Ok(call(&text.to_cow()?));
    }
    if !is_integer(key)? {
        let kind = key.get_type().name()?;
        return Err(PyTypeError::new_err(format!("a key is a text or a whole number, not {kind}")));
    }
    match key.extract::<i64>() {
        Ok(number) => Ok(call(&number.to_string())),
        Err(_) => Ok(call(&key.call_method0("__index__")?.str()?.to_cow()?)),
    }
}

fn key_list(keys: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let listed = |items: Bound<'_, PyAny>| {
        (items.try_iter()?.enumerate())
            .map(|(at, key)| {
                with_key(Some(&key?), str::to_owned).map_err(|error| with_place(keys.py(), &error, "keys", at))
            })
            .collect()
    };
    if keys.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("keys is one text; send a list with a key for each row"));
    }
    if keys.is_instance_of::<PyList>() || keys.is_instance_of::<PyTuple>() {
        return listed(keys.clone());
    }
    let (array, kind) = arrays::asarray(keys)?;
    let dimensions: usize = array.getattr("ndim")?.extract()?;
    if dimensions != 1 {
        return Err(PyTypeError::new_err(format!("keys has {dimensions} dimensions, expected one")));
    }
    if kind == 'i' {
        return Ok(arrays::integers(&array, "keys")?.data.into_iter().map(|key| key.to_string()).collect());
    }
    listed(array.call_method0("tolist")?)
}

/// What all learners are made with.
struct Common<'a, 'py> {
    options: &'a Bound<'py, PyAny>,
    seed: Option<&'a Bound<'py, PyAny>>,
    reward_range: (f64, f64),
    min_exploration: f64,
    max_keys: MaxKeys,
    half_life_updates: Option<f64>,
    priors: Option<&'a Bound<'py, PyDict>>,
}

impl Common<'_, '_> {
    fn settings(self, algorithm: Algorithm, max_delta: f64, shrinkage: Option<f64>) -> PyResult<Settings> {
        let options = option_names(self.options)?;
        let mut priors = Vec::new();
        if let Some(given) = self.priors.filter(|given| !given.is_empty()) {
            priors = vec![None; options.len()];
            for (option, prior) in given.iter() {
                let at = match option.cast::<PyString>() {
                    Ok(name) => options.iter().position(|known| name.to_cow().is_ok_and(|name| *known == name)),
                    Err(_) => option.extract::<usize>().ok().filter(|&at| at < options.len()),
                };
                let named = shown(&option.to_string());
                let at = at.ok_or_else(|| PyValueError::new_err(format!("priors: {named} is not an option")))?;
                if priors[at].is_some() {
                    return Err(PyValueError::new_err(format!("priors: option {named} stands twice")));
                }
                let (reward, count) = prior.extract::<(f64, f64)>().map_err(|_| {
                    let got = shown(&prior.to_string());
                    PyTypeError::new_err(format!("priors: option {named} needs (mean, count), got {got}"))
                })?;
                priors[at] = Some(Prior { reward, count });
            }
        }
        Ok(Settings {
            seed: seed(self.options.py(), self.seed)?,
            priors,
            options,
            max_keys: self.max_keys.0,
            algorithm,
            max_delta,
            shrinkage,
            reward_range: self.reward_range.into(),
            min_exploration: self.min_exploration,
            half_life_updates: self.half_life_updates,
        })
    }
}

fn option_names(options: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if is_integer(options)? {
        let count = options.extract::<usize>().ok().filter(|&count| count <= capsa_core::definition::MAX_OPTIONS);
        let most = capsa_core::definition::MAX_OPTIONS;
        let count = count.ok_or_else(|| {
            let count = shown(&options.to_string());
            PyValueError::new_err(format!("{count} options; use 2 to {most}"))
        })?;
        return Ok((0..count).map(|option| option.to_string()).collect());
    }
    if options.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("options is one text; send their number, or a list of names"));
    }
    if options.is_instance_of::<PySet>() || options.is_instance_of::<PyFrozenSet>() {
        return Err(PyTypeError::new_err("options is a set, which has no order; send a list of names"));
    }
    options.try_iter()?.map(|name| name?.extract::<String>()).collect()
}

/// How many keys are held at most.
struct MaxKeys(u32);

impl<'py> FromPyObject<'_, 'py> for MaxKeys {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if !is_integer(&value)? {
            let kind = value.get_type().name()?;
            return Err(PyTypeError::new_err(format!("max_keys is a whole number, not {kind}")));
        }
        let count = value.extract().ok().filter(|count| (1..=MAX_CONTEXTS).contains(count));
        let shown = shown(&value.to_string());
        count.map(Self).ok_or_else(|| PyValueError::new_err(format!("max_keys is {shown}; use 1 to {MAX_CONTEXTS}")))
    }
}

fn seed(py: Python<'_>, seed: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    let Some(seed) = seed else {
        let random: [u8; 8] =
            py.import("os")?.call_method1("urandom", (8,))?.cast::<PyBytes>()?.as_bytes().try_into()?;
        return Ok(u64::from_le_bytes(random));
    };
    if !is_integer(seed)? {
        let kind = seed.get_type().name()?;
        return Err(PyTypeError::new_err(format!("seed is a whole number or None, not {kind}")));
    }
    seed.extract()
        .map_err(|_| PyValueError::new_err(format!("seed {} is not within 0 to 2**64 - 1", shown(&seed.to_string()))))
}

macro_rules! learner {
    ($(#[$doc:meta])* $class:ident, ($($own:ident: $type:ty = $default:tt),*), $algorithm:expr, $max_delta:expr, $shrinkage:expr) => {
        $(#[$doc])*
        #[pyclass(module = "capsa.learners", extends = Learner, frozen)]
        pub struct $class;

        #[pymethods]
        impl $class {
            #[new]
            #[pyo3(signature = (options, *, $($own = $default,)* seed=None, reward_range=(0.0, 1.0), min_exploration=0.0, max_keys=MaxKeys(10_000), half_life_updates=None, priors=None))]
            #[allow(clippy::too_many_arguments, reason = "the keywords of one Python call")]
            fn new(
                options: &Bound<'_, PyAny>,
                $($own: $type,)*
                seed: Option<&Bound<'_, PyAny>>,
                reward_range: (f64, f64),
                min_exploration: f64,
                max_keys: MaxKeys,
                half_life_updates: Option<f64>,
                priors: Option<&Bound<'_, PyDict>>,
            ) -> PyResult<PyClassInitializer<Self>> {
                let common = Common { options, seed, reward_range, min_exploration, max_keys, half_life_updates, priors };
                let settings = common.settings($algorithm, $max_delta, $shrinkage)?;
                Ok(PyClassInitializer::from(Learner::new(settings)?).add_subclass($class))
            }
        }
    };
}

/// What `max_delta` is where it does not act.
const UNUSED_MAX_DELTA: f64 = 1.0;

learner!(
    /// Options are drawn by the probability that each is the best one.
    Thompson, (shrinkage: Option<f64> = None), Algorithm::Thompson, UNUSED_MAX_DELTA, shrinkage
);
learner!(
    /// The best mean, but for a share of uniform draws.
    EpsilonGreedy, (epsilon: f64 = 0.1, shrinkage: Option<f64> = None),
    Algorithm::EpsilonGreedy { epsilon }, UNUSED_MAX_DELTA, shrinkage
);
learner!(
    /// The largest upper confidence bound.
    Ucb1, (shrinkage: Option<f64> = None), Algorithm::Ucb1, UNUSED_MAX_DELTA, shrinkage
);
learner!(
    /// Weights that move by a share of the reward.
    SimpleWeighted, (max_delta: f64 = 0.15), Algorithm::SimpleWeighted, max_delta, None
);
