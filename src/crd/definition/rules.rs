//! The rules of the definitions in CEL.

use std::{collections::HashMap, sync::Arc};

use cel::{Context, Env, ExecutionError, Program, Value as Evaluated, extensions, extractors::This};
use jiff::Timestamp;
use serde_json::Value;

use crate::{crd::Fault, token::duration::Delay};

/// The keyword of a schema that holds its rules.
const KEYWORD: &str = "x-kubernetes-validations";

/// The functions of CEL that the API server has, as far as the rules of Tokenry use them.
pub(crate) fn environment() -> Env {
    let mut env = Env::stdlib();
    extensions::strings(&mut env).expect("nothing else declares these functions");
    env
}

/// All rules, compiled.
pub(super) struct DefinitionRules {
    env: Arc<Env>,
    /// The programs, by the text of the rule.
    programs: HashMap<String, Program>,
}

impl DefinitionRules {
    /// Compiles the rules of these schemas.
    pub(super) fn of<'a>(schemas: impl Iterator<Item = &'a Value>) -> Self {
        let env = environment();
        let mut texts = Vec::new();
        schemas.for_each(|schema| collect(schema, &mut texts));
        let programs = texts.into_iter().map(|text| {
            let program = env.compile(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            (text.to_owned(), program)
        });
        Self { programs: programs.collect(), env: Arc::new(env) }
    }

    /// The faults of the rules of a schema that `value` breaks. A rule that cannot be evaluated is broken, too: the API
    /// server refuses the object.
    pub(super) fn broken(&self, schema: &Value, value: &Value, path: &str) -> Vec<Fault> {
        let rules = rules(schema);
        if rules.is_empty() {
            return Vec::new();
        }
        let context = self.context(schema, value);
        let is_broken = |rule: &Value| {
            let program = rule["rule"].as_str().and_then(|text| self.programs.get(text));
            program.is_some_and(|program| !matches!(program.execute(&context), Ok(Evaluated::Bool(true))))
        };
        let fault = |rule: &Value| {
            let at = format!("{path}{}", rule["fieldPath"].as_str().unwrap_or_default());
            Fault::invalid(at, rule["message"].as_str().unwrap_or("breaks a rule of its definition"))
        };
        rules.into_iter().filter(|rule| is_broken(rule)).map(fault).collect()
    }

    fn context(&self, schema: &Value, value: &Value) -> Context<'static, 'static> {
        let mut context = Context::with_env(self.env.clone());
        // Durations and times are numbers of seconds here. The rules do nothing with them but compare them.
        let declared = [
            context.add_function("duration", |text: Arc<String>| seconds(&text).ok_or_else(|| unreadable("duration"))),
            context.add_function("getSeconds", |This(seconds): This<i64>| seconds),
            context.add_function("timestamp", |text: Arc<String>| moment(&text).ok_or_else(|| unreadable("timestamp"))),
        ];
        assert!(declared.iter().all(Result::is_ok), "the crate has these functions with its feature chrono only");
        let time = value.as_str().filter(|_| schema["format"] == "date-time").and_then(moment);
        match time {
            Some(time) => context.add_variable_from_value("self", time),
            None => {
                let given = cel::to_value(value).unwrap_or(Evaluated::Null);
                context.add_variable_from_value("self", given);
            }
        }
        context
    }
}

/// The rules of a schema about a new object.
fn rules(schema: &Value) -> Vec<&Value> {
    let all = schema.get(KEYWORD).and_then(Value::as_array).into_iter().flatten();
    all.filter(|rule| rule["rule"].as_str().is_some_and(|text| !text.contains("oldSelf"))).collect()
}

/// Collects the texts of all rules in a schema.
fn collect<'a>(schema: &'a Value, texts: &mut Vec<&'a str>) {
    texts.extend(rules(schema).into_iter().filter_map(|rule| rule["rule"].as_str()));
    match schema {
        Value::Object(fields) => fields.values().for_each(|schema| collect(schema, texts)),
        Value::Array(schemas) => schemas.iter().for_each(|schema| collect(schema, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn seconds(text: &str) -> Option<i64> {
    Delay::from(text).parse().ok().map(|duration| duration.as_secs())
}

fn moment(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

fn unreadable(function: &str) -> ExecutionError {
    ExecutionError::function_error(function, "the text cannot be read")
}
