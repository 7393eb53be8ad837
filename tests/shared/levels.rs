//! Log levels as users write them: one table for the flag and for the schema of the chart.

/// Texts that are levels or lists of them.
pub(crate) const GOOD: [&str; 12] = [
    "off",
    "error",
    "warn",
    "info",
    "debug",
    "trace",
    "info,tokenry::controller=debug",
    "tokenry::verifier=trace,warn",
    "info,hyper-util=off,tokenry_x9=error",
    "info,[pass]=debug",
    "info,tokenry[pass{name=ci}]=trace",
    "warn,[pass{kind=ApiToken}]=debug",
];

/// Texts that are none. Most of them would silence everything.
pub(crate) const BAD: [&str; 22] = [
    "",
    "warning",
    "loud",
    "INFO",
    "tokenry",
    "info,loud",
    "tokenry=loud",
    "tokenry=",
    "info,",
    ",info",
    "=",
    "=info",
    "info debug",
    "info tokenry=debug",
    "info;tokenry=debug",
    "info, tokenry=debug",
    " info",
    "info ",
    "a=b=debug",
    "info,[pass=debug",
    "info,[pass{}]=debug",
    "info,[pass]x=debug",
];
