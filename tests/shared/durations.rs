//! Durations as users write them: one table for the parser and for the rules of the definitions.

/// Texts that are durations, with their seconds.
pub(crate) const GOOD: [(&str, i64); 13] = [
    ("45s", 45),
    ("30m", 1_800),
    ("24h", 86_400),
    ("365d", 31_536_000),
    ("99999d", 8_639_913_600),
    ("2160h", 7_776_000),
    ("1h30m", 5_400),
    ("2160h0m0s", 7_776_000),
    ("0h1m", 60),
    ("08h", 28_800),
    ("1m1h", 3_660),
    ("1h1h1h1h", 14_400),
    ("99999h99999m99999s", 366_096_339),
];

/// Texts that are none.
pub(crate) const BAD: [&str; 25] = [
    "",
    "0",
    "0s",
    "0h0m",
    "0d",
    "-1d",
    "+1d",
    "-1h",
    "10x",
    "10",
    "d",
    "h",
    "1.5h",
    "01d",
    "1d1h",
    "1h1d",
    "123456s",
    "100000d",
    "500ms",
    "1h 1m",
    " 1d",
    "1d ",
    "1D",
    "1d\n",
    "1h1h1h1h1h",
];
