//! Templates for further keys of a Secret.
//!
//! A template is a small part of Jinja: text, `{{ expressions }}` and `{% if %}`. Templates have no assignments, no
//! loops and no functions. So the result is about as long as the template and the values that it names.
//!
//! A [`Room`] limits the results of all templates of a Secret together, byte by byte. [`Template::parse`] checks
//! everything except the room, before there is a value to render.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use minijinja::{
    AutoEscape, Environment, UndefinedBehavior, Value,
    machinery::{Span, Token, ast, parse, tokenize},
    syntax::SyntaxConfig,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

/// The longest template, in bytes.
pub const LONGEST: usize = 64 * 1024;
/// The most words and signs in one expression. The parser recurses as deep as an expression is long, and the stack is
/// limited.
const EXPRESSION: usize = 100;
/// The most words and signs in all expressions of a template together. Each word costs the parser about as much as a
/// page of text.
const WORDS: usize = 1000;
/// The most `{% %}` in a template. They can be nested.
const CONDITIONS: usize = 100;
/// The fuel for all templates of a Secret. Each step takes one, and each 64 bytes take one. A full Secret of 1 MiB
/// takes 16 384 for its bytes. The steps of as many templates as a token can have take at most about 50 000.
const FUEL: u64 = 100_000;
/// The longest message of a fault, in characters.
const TOLD: usize = 250;
/// The characters that are encoded in a part of a URI: all but the unreserved ones (RFC 3986).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const FILTERS: [&str; 3] = ["b64encode", "tojson", "urlencode"];

/// The placeholder for a value that does not exist yet. It is as long as the longest value, with characters of all
/// kinds.
pub const PLACEHOLDER: &str = "placeholder00000_0aB1cD2eF3gH4iJ5_0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX2yZ3aB4cD5eFg";
/// The placeholder for the id of a value that does not exist yet.
pub const PLACEHOLDER_ID: &str = "0aB1cD2eF3gH4iJ5";

/// The values that a template can name.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    /// `token`: the value.
    pub token: &'a str,
    /// `token_id`: its public id.
    pub token_id: &'a str,
    /// The values that do not change with the token's value.
    pub around: &'a Around,
}

/// The values that a template can name, and that do not change with the token's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// `endpoint`: URI of the Admin API. Empty if there is none.
    pub endpoint: String,
    /// `organization`: the Instance's own organization.
    pub organization: String,
    /// `account`: name of the account that the token acts as.
    pub account: String,
    /// `name`: name of the token.
    pub name: String,
    /// `namespace`: namespace of the token.
    pub namespace: String,
}

impl<'a> Values<'a> {
    /// Values with [`PLACEHOLDER`] for the token's value, and [`PLACEHOLDER_ID`] for its id.
    pub fn placeholder(around: &'a Around) -> Self {
        Self { token: PLACEHOLDER, token_id: PLACEHOLDER_ID, around }
    }

    fn named(&self) -> [(&'static str, &'a str); 7] {
        let Around { endpoint, organization, account, name, namespace } = self.around;
        [
            ("token", self.token),
            ("token_id", self.token_id),
            ("endpoint", endpoint),
            ("organization", organization),
            ("account", account),
            ("name", name),
            ("namespace", namespace),
        ]
    }
}

/// A fault of a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct TemplateError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1, in characters.
    pub column: usize,
    /// The message, which says how to correct the fault.
    pub message: String,
}

/// The room that a Secret still has for results of templates. Rendering stops at the end of the room, so a result that
/// does not fit costs no more than a result that fits.
#[derive(Clone, Debug)]
pub struct Room {
    bytes: usize,
    fuel: u64,
}

impl Room {
    /// Room for this many bytes, with full fuel.
    pub const fn new(bytes: usize) -> Self {
        Self { bytes, fuel: FUEL }
    }
}

/// A text that is being rendered. A write that exceeds the room is refused.
struct Bounded<'a> {
    text: &'a mut Zeroizing<Vec<u8>>,
    most: usize,
}

impl Write for Bounded<'_> {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if more.len() > self.most - self.text.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.text.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The error for a result that is too long. It repeats no part of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the result of the template is too long")]
pub struct TooLong;

/// A template without faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    of_value: bool,
    of_endpoint: bool,
}

impl Template {
    /// Checks `source`.
    ///
    /// # Errors
    /// The source is not a template, or it uses a feature that these templates do not have.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let at = |(at, message): Misfit| located(source, at, message);
        measured(source).map_err(at)?;
        let root = parse(source, "", syntax()).map_err(|error| at(syntax_fault(source, &error)))?;
        let mut judge = Judge { of_value: false, of_endpoint: false };
        judge.statement(&root).map_err(at)?;
        Ok(Self { source: source.to_owned(), of_value: judge.of_value, of_endpoint: judge.of_endpoint })
    }

    /// True if the result changes with the token's value, because the template names `token` or `token_id`.
    pub fn is_of_value(&self) -> bool {
        self.of_value
    }

    /// True if the template names `endpoint`.
    pub fn is_of_endpoint(&self) -> bool {
        self.of_endpoint
    }

    /// Renders the template with these values, and takes the result from the `room`. The result may hold the token's
    /// value.
    ///
    /// # Errors
    /// The room is too small for the result. The room is used up then.
    pub fn render(&self, values: &Values<'_>, room: &mut Room) -> Result<Zeroizing<String>, TooLong> {
        let Room { bytes, fuel } = std::mem::replace(room, Room { bytes: 0, fuel: 0 });
        let mut text = Zeroizing::new(Vec::new());
        // The error of the engine could quote the value, so it is dropped.
        let left = self.write(values, fuel, Bounded { text: &mut text, most: bytes }).map_err(|_| TooLong)?;
        *room = Room { bytes: bytes - text.len(), fuel: left };
        String::from_utf8(std::mem::take(&mut *text)).map(Zeroizing::new).map_err(|_| TooLong)
    }

    /// Writes the result. Returns the fuel that is left.
    fn write(&self, values: &Values<'_>, fuel: u64, text: Bounded<'_>) -> Result<u64, minijinja::Error> {
        let context: BTreeMap<_, _> =
            values.named().into_iter().map(|(name, text)| (name, Value::from(text))).collect();
        let environment = environment(fuel);
        let template = environment.template_from_str(&self.source)?;
        let done = template.render_captured_to(Value::from_object(context), text)?;
        Ok(done.state().fuel_levels().map_or(0, |(_, left)| left))
    }
}

fn syntax() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax.keep_trailing_newline(true);
    syntax.build().expect("the usual signs")
}

fn environment<'a>(fuel: u64) -> Environment<'a> {
    let mut environment = Environment::empty();
    environment.set_debug(false);
    environment.set_syntax(syntax());
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(fuel));
    environment.add_filter("b64encode", |value: Value| STANDARD.encode(value.to_string()));
    environment.add_filter("tojson", |value: Value| serde_json::Value::from(value.to_string()).to_string());
    environment.add_filter("urlencode", |value: Value| utf8_percent_encode(&value.to_string(), RESERVED).to_string());
    environment
}

/// A fault: its position in bytes, and its message.
type Misfit = (usize, String);

fn located(source: &str, at: usize, message: String) -> TemplateError {
    let before = source.get(..at).unwrap_or(source);
    let line = before.rsplit('\n').next().unwrap_or_default();
    // The message may repeat a word of the template, so it is cut.
    let message = message.chars().take(TOLD).collect();
    TemplateError { line: before.matches('\n').count() + 1, column: line.chars().count() + 1, message }
}

fn syntax_fault(source: &str, error: &minijinja::Error) -> Misfit {
    let at = error.range().map_or(source.len(), |range| range.start);
    (at, error.detail().unwrap_or("is not valid syntax for a template").to_owned())
}

/// Rejects a source that is too long or too deep, before the parser reads it.
#[expect(clippy::wildcard_enum_match_arm, reason = "the words of the template library: each other one counts")]
fn measured(source: &str) -> Result<(), Misfit> {
    if source.len() > LONGEST {
        return Err((0, format!("a template must not be longer than {} KiB", LONGEST / 1024)));
    }
    let (mut conditions, mut length, mut words) = (0, 0, 0);
    for token in tokenize(source, false, syntax()) {
        let (token, span) = token.map_err(|error| syntax_fault(source, &error))?;
        let at = start(span);
        match token {
            Token::TemplateData(_) | Token::VariableStart => length = 0,
            Token::BlockStart => (conditions, length) = (conditions + 1, 0),
            _ => (length, words) = (length + 1, words + 1),
        }
        if conditions > CONDITIONS {
            return Err((
                at,
                format!("a template must not have more than {CONDITIONS} {{% %}}; split it into several keys"),
            ));
        }
        if words > WORDS {
            let message =
                format!("expressions must not have more than {WORDS} words and signs together; use several keys");
            return Err((at, message));
        }
        if length > EXPRESSION {
            return Err((at, format!("an expression must not have more than {EXPRESSION} words and signs; split it")));
        }
    }
    Ok(())
}

fn start(span: Span) -> usize {
    span.start_offset as usize
}

/// Walks through a syntax tree, and accepts only parts that are known to be harmless.
struct Judge {
    of_value: bool,
    of_endpoint: bool,
}

impl Judge {
    fn statement(&mut self, statement: &ast::Stmt<'_>) -> Result<(), Misfit> {
        let refused = |span: Span, what: &str| {
            Err((
                start(span),
                format!("{what} is not supported in these templates; use text, {{{{ expressions }}}} and {{% if %}}"),
            ))
        };
        match statement {
            ast::Stmt::Template(template) => self.statements(&template.children),
            ast::Stmt::EmitRaw(_) => Ok(()),
            ast::Stmt::EmitExpr(emitted) => self.expression(&emitted.expr),
            ast::Stmt::IfCond(condition) => {
                self.expression(&condition.expr)?;
                self.statements(&condition.true_body)?;
                self.statements(&condition.false_body)
            }
            ast::Stmt::ForLoop(found) => {
                Err((start(found.span()), "there is nothing to loop over: remove {% for %}".into()))
            }
            ast::Stmt::WithBlock(found) => refused(found.span(), "{% with %}"),
            ast::Stmt::Set(found) => refused(found.span(), "{% set %}"),
            ast::Stmt::SetBlock(found) => refused(found.span(), "{% set %}"),
            ast::Stmt::AutoEscape(found) => refused(found.span(), "{% autoescape %}"),
            ast::Stmt::FilterBlock(found) => refused(found.span(), "{% filter %}"),
            ast::Stmt::Do(found) => refused(found.span(), "{% do %}"),
        }
    }

    fn statements(&mut self, statements: &[ast::Stmt<'_>]) -> Result<(), Misfit> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the syntax of the template library: what is not listed is refused"
    )]
    fn expression(&mut self, expression: &ast::Expr<'_>) -> Result<(), Misfit> {
        let at = start(expression.span());
        match expression {
            ast::Expr::Const(_) => Ok(()),
            ast::Expr::Var(variable) => self.variable(variable.id, at),
            ast::Expr::UnaryOp(not) if matches!(not.op, ast::UnaryOpKind::Not) => self.expression(&not.expr),
            ast::Expr::BinOp(both) if is_harmless(both.op) => {
                self.expression(&both.left)?;
                self.expression(&both.right)
            }
            ast::Expr::IfExpr(choice) => {
                let test = start(choice.test_expr.span());
                let missing = (test, "an if in an expression needs an else".to_owned());
                let otherwise = choice.false_expr.as_ref().ok_or(missing)?;
                self.expression(&choice.test_expr)?;
                self.expression(&choice.true_expr)?;
                self.expression(otherwise)
            }
            ast::Expr::Filter(filter) => self.filter(filter, at),
            _ => Err((
                at,
                "is not supported in these templates; use names, texts, ~, ==, !=, and, or, not, if-else and filters"
                    .into(),
            )),
        }
    }

    fn variable(&mut self, name: &str, at: usize) -> Result<(), Misfit> {
        let known = Values::placeholder(&Around::default()).named().map(|(known, _)| known);
        if !known.contains(&name) {
            return Err((at, format!("there is no {name}; a template can name {}", known.join(", "))));
        }
        self.of_value |= matches!(name, "token" | "token_id");
        self.of_endpoint |= name == "endpoint";
        Ok(())
    }

    fn filter(&mut self, filter: &ast::Filter<'_>, at: usize) -> Result<(), Misfit> {
        if !FILTERS.contains(&filter.name) {
            return Err((at, format!("there is no filter {}; use one of {}", filter.name, FILTERS.join(", "))));
        }
        match (&filter.expr, filter.args.as_slice()) {
            (Some(value), []) => self.expression(value),
            _ => Err((at, format!("the filter {} takes no arguments; remove them", filter.name))),
        }
    }
}

/// True if the result of an operator is no longer than both of its sides together.
fn is_harmless(operator: ast::BinOpKind) -> bool {
    use ast::BinOpKind::{Concat, Eq, Ne, ScAnd, ScOr};
    matches!(operator, Concat | Eq | Ne | ScAnd | ScOr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::format;
    use proptest::prelude::*;

    fn around() -> Around {
        Around {
            endpoint: "https://admin.example.com".into(),
            organization: "eem".into(),
            account: "ci".into(),
            name: "exporter".into(),
            namespace: "events".into(),
        }
    }

    /// The room of a whole Secret.
    fn room() -> Room {
        Room::new(1 << 20)
    }

    fn rendered(source: &str) -> String {
        let around = around();
        let values = Values { token: "tkn_1_2", token_id: "1", around: &around };
        Template::parse(source).unwrap().render(&values, &mut room()).unwrap().to_string()
    }

    fn fault(source: &str) -> String {
        Template::parse(source).unwrap_err().to_string()
    }

    #[test]
    fn a_template_says_what_it_names() {
        for (source, text) in [
            ("TOKEN={{ token }}\nURL={{ endpoint }}\n", "TOKEN=tkn_1_2\nURL=https://admin.example.com\n"),
            (
                "{{ namespace }}/{{ name }} is {{ account }} of {{ organization }}: {{ token_id }}",
                "events/exporter is ci of eem: 1",
            ),
            ("{% if endpoint %}yes{% elif token %}no{% else %}never{% endif %}", "yes"),
            ("{{ endpoint if organization == 'acme' else 'none' }}{# a remark #}", "none"),
            ("{{ ('user:' ~ token) | b64encode }}", "dXNlcjp0a25fMV8y"),
            ("{\"url\": {{ endpoint | tojson }}}", "{\"url\": \"https://admin.example.com\"}"),
            ("{{ endpoint | urlencode }}", "https%3A%2F%2Fadmin.example.com"),
            ("{{ '<&>\"' }}{{ '\"' | tojson }}", "<&>\"\"\\\"\""),
            ("{% raw %}{{ token }}{% endraw %}", "{{ token }}"),
            ("{{ not token and 'a' or 'b' }}{{ token != token_id }}", "bTrue"),
            ("", ""),
        ] {
            assert_eq!(rendered(source), text, "{source}");
        }
    }

    #[test]
    fn whether_it_changes_with_the_value_is_known_without_one() {
        for (source, of_value) in [
            ("{{ token }}", true),
            ("{% if endpoint %}{{ 'a' ~ token_id | b64encode }}{% endif %}", true),
            ("{{ endpoint }}", false),
            ("token", false),
        ] {
            assert_eq!(Template::parse(source).unwrap().is_of_value(), of_value, "{source}");
        }
    }

    #[test]
    fn a_fault_is_told_with_its_line_and_column_and_what_to_do() {
        for (source, told) in [
            (
                "a\n {{ tokn }}",
                "line 2, column 5: there is no tokn; a template can name token, token_id, endpoint, organization, account, name, namespace",
            ),
            (
                "{{ token | upper }}",
                "line 1, column 12: there is no filter upper; use one of b64encode, tojson, urlencode",
            ),
            ("{{ token | tojson(1) }}", "line 1, column 12: the filter tojson takes no arguments; remove them"),
            ("é{% for x in token %}{% endfor %}", "line 1, column 5: there is nothing to loop over: remove {% for %}"),
            ("{{ token if token }}", "line 1, column 13: an if in an expression needs an else"),
        ] {
            assert_eq!(fault(source), told);
        }
        for source in [
            "{{ token",
            "{{ }}",
            "{% if token %}",
            "{% endif %}",
            "{{ 'a }}",
            "{# a",
            "{% nonsense %}",
            "\n{{ token token }}",
        ] {
            let told = fault(source);
            assert!(told.starts_with("line "), "{source}: {told}");
        }
    }

    #[test]
    fn whatever_could_grow_bind_or_call_is_refused() {
        for source in [
            "{{ 'x' * 1000000000 }}",
            "{{ 10 ** 10 ** 10 }}",
            "{{ token + token }}",
            "{{ -token }}",
            "{{ token[0] }}",
            "{{ token[0:2] }}",
            "{{ token.x }}",
            "{{ token.upper() }}",
            "{{ range(9) }}",
            "{{ [token] }}",
            "{{ (token, token) }}",
            "{{ {'a': token} }}",
            "{{ token in token }}",
            "{{ token is defined }}",
            "{{ 1 < 2 < 3 }}",
            "{% set x = token %}",
            "{% set x %}{{ token }}{% endset %}",
            "{% with x = token %}{{ x }}{% endwith %}",
            "{% filter b64encode %}{{ token }}{% endfilter %}",
            "{% autoescape true %}{{ token }}{% endautoescape %}",
            "{% do token() %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{% include 'x' %}",
            "{% extends 'x' %}",
            "{% import 'x' as y %}",
            "{% block x %}{% endblock %}",
        ] {
            assert!(Template::parse(source).is_err(), "{source}");
        }
    }

    #[test]
    fn what_is_long_or_deep_is_refused_before_it_is_gone_into() {
        let deep = |open: &str, middle: &str, close: &str, times: usize| {
            format!("{{{{ {}{middle}{} }}}}", open.repeat(times), close.repeat(times))
        };
        for source in [
            "x".repeat(LONGEST + 1),
            deep("", "token", " ~ token", 7000),
            deep("", "token", "|tojson", 7000),
            deep("not ", "token", "", 15_000),
            deep("(", "token", ")", 30_000),
            deep("", "token", ".x", 30_000),
            deep("", "token", "()", 30_000),
            deep("-", "1", "", 60_000),
            deep("", "1", "**1", 20_000),
            deep("[", "", "]", 30_000),
            format!("{}{}", "{%if token%}".repeat(2500), "{%endif%}".repeat(2500)),
            format!("{{%if token%}}{}{{%endif%}}", "{%elif token%}".repeat(4500)),
            "{{token}}".repeat(WORDS / 2 + 1),
        ] {
            assert!(Template::parse(&source).is_err(), "{}", &source[..40]);
        }
    }

    #[test]
    fn what_filters_make_of_each_other_is_bounded() {
        let around = around();
        let values = Values::placeholder(&around);
        let doubled = format!("{{{{ '\\\"\\\"'{} }}}}", "|tojson".repeat(40));
        assert_eq!(Template::parse(&doubled).unwrap().render(&values, &mut room()), Err(TooLong));
        let compared = format!("{{{{ '\\\"\\\"'{} == '' }}}}", "|tojson".repeat(40));
        assert_eq!(
            Template::parse(&compared).unwrap().render(&values, &mut room()),
            Err(TooLong),
            "an intermediate result is limited too"
        );
        let many = "{{token}}".repeat(WORDS / 2);
        assert!(Template::parse(&many).unwrap().render(&values, &mut room()).is_ok());
    }

    #[test]
    fn templates_share_the_room_and_what_does_not_fit_is_not_made() {
        let around = Around { name: "n".repeat(253), ..around() };
        let values = Values::placeholder(&around);
        let text = Template::parse(&"{{name}}".repeat(400)).unwrap();
        let mut shared = Room::new(2 * 400 * 253 + 252);
        assert!(text.render(&values, &mut shared).is_ok() && text.render(&values, &mut shared).is_ok());
        let one = Template::parse("{{name}}").unwrap();
        assert_eq!(one.render(&values, &mut shared.clone()), Err(TooLong), "one byte too many");
        assert_eq!(text.render(&values, &mut shared), Err(TooLong));
        assert_eq!(one.render(&values, &mut shared), Err(TooLong), "the room is used up");
        let mut written = Zeroizing::new(Vec::new());
        text.write(&values, FUEL, Bounded { text: &mut written, most: 1000 }).unwrap_err();
        assert_eq!(written.len(), 3 * 253, "it stops at the bound");
    }

    #[test]
    fn templates_share_the_steps() {
        let around = around();
        let values = Values::placeholder(&around);
        let full = format!("{{{{name{}}}}}", "~name".repeat(48)).repeat(10);
        let full = Template::parse(&full).unwrap();
        let mut shared = room();
        for nth in 0..32 {
            assert!(full.render(&values, &mut shared).is_ok(), "the largest number of full templates: {nth}");
        }
        let costly = format!("{{{{ '' if '{}'|b64encode|b64encode == '' else '' }}}}", "x".repeat(60_000));
        let costly = Template::parse(&costly).unwrap();
        let done = (0..100).take_while(|_| costly.render(&values, &mut shared).is_ok()).count();
        assert!(done < 16, "a template with an empty result is limited too: {done}");
    }

    #[test]
    fn a_placeholder_is_as_long_as_a_value_can_be() {
        let prefix = "p".repeat(16);
        let value = format::assemble(&prefix, PLACEHOLDER_ID, &"s".repeat(format::SECRET));
        assert_eq!((value.expose().len(), PLACEHOLDER_ID.len()), (PLACEHOLDER.len(), format::ID));
        assert!(format::id(PLACEHOLDER).is_err(), "a placeholder is not a value");
    }

    proptest! {
        #![proptest_config(crate::token::cases::usual())]

        #[test]
        fn no_text_panics(source in "(\\{\\{|\\}\\}|\\{%|%\\}|\\{#|if |else|endif|for|raw|endraw|token|'|\"|\\\\|~|\\||b64encode|[ -~]|\\PC|\n){0,60}") {
            if let Ok(template) = Template::parse(&source) {
                template.render(&Values::placeholder(&around()), &mut room()).unwrap();
            }
        }
    }
}
