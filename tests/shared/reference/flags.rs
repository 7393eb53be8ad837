//! The commands, their flags and environment variables.

use std::fmt::Write;

use super::page::{begin, cell, code, section, table};

pub fn page() -> String {
    let about = "A flag wins over its environment variable. Every command finds its cluster as kubectl does: by \
                 `KUBECONFIG`, by `~/.kube/config`, or by the account of its Pod. `HTTPS_PROXY` and `NO_PROXY` name \
                 the proxy to the API server, `http://`, `https://` or `socks5://`. A root of the system, or of \
                 `SSL_CERT_FILE`, has to sign the certificate of an `https://` proxy. In a cluster, set them by \
                 `extraEnv` of the chart. A flag with a star is required.";
    let mut page = begin("Commands, flags and environment", "the command line", about);
    let command = tokenry::cli::command();
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        section(&mut page, &format!("tokenry {}", command.get_name()), &sentence(command.get_about()));
        let arguments = command.get_arguments().filter(|argument| argument.get_id() != "help");
        let rows = arguments.map(|argument| {
            let env = argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
            let name = match (argument.get_long(), argument.get_short()) {
                (Some(long), Some(short)) => format!("`--{long}`, `-{short}`"),
                (Some(long), None) => code(&format!("--{long}")),
                (None, _) => code(&argument.get_id().as_str().to_uppercase()),
            };
            let star = if argument.is_required_set() { " \\*" } else { "" };
            [name + star, code(&env), code(&defaults.join(" ")), sentence(argument.get_help())]
        });
        table(&mut page, ["flag", "environment", "default", "meaning"], rows);
    }
    let codes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    section(&mut page, "Exit codes", "");
    let rows = codes.lines().skip(1).filter_map(|line| line.trim_start().split_once("  "));
    table(&mut page, ["code", "meaning"], rows.map(|(code, meaning)| [code.to_owned(), cell(meaning)]));
    page
}

fn sentence(text: Option<&impl ToString>) -> String {
    let mut text = cell(&text.map(ToString::to_string).unwrap_or_default());
    if !text.is_empty() && !text.ends_with('.') {
        let _ = text.write_char('.');
    }
    text
}
