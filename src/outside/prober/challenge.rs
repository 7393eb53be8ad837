//! The challenges of a `WWW-Authenticate` header (RFC 9110, 11.6.1).

/// True if a challenge in `header` has exactly this realm. A header that breaks the grammar has no challenges at all.
pub(super) fn has_realm(header: &[u8], realm: &str) -> bool {
    realms(header).is_some_and(|realms| realms.iter().any(|found| found == realm.as_bytes()))
}

/// The realm of each challenge that has one. `None` if the header breaks the grammar.
fn realms(header: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = Rest(header);
    let (mut realms, mut takes_params, mut has_realm) = (Vec::new(), false, false);
    loop {
        // A list may have empty elements.
        while rest.space() | rest.take(b',') {}
        if rest.0.is_empty() {
            return Some(realms);
        }
        let before = rest;
        let mut param = rest.param();
        if param.is_none() {
            rest = before;
            rest.token()?;
            (takes_params, has_realm) = (true, false);
            if rest.space() && !rest.ends() {
                let before = rest;
                param = rest.param();
                if param.is_none() {
                    rest = before;
                    rest.token68()?;
                    takes_params = false;
                }
            }
        }
        if let Some((name, value)) = param {
            let is_realm = name.eq_ignore_ascii_case(b"realm");
            if !takes_params || is_realm && has_realm {
                return None;
            }
            if is_realm {
                has_realm = true;
                realms.push(value);
            }
        }
        rest.space();
        if !rest.ends() {
            return None;
        }
    }
}

/// The part of a header that is not read yet.
#[derive(Clone, Copy)]
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// True at the end of an element.
    fn ends(self) -> bool {
        self.0.first().is_none_or(|&next| next == b',')
    }

    fn take(&mut self, wanted: u8) -> bool {
        let rest = self.0.strip_prefix(&[wanted]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn space(&mut self) -> bool {
        !self.run(|byte| matches!(byte, b' ' | b'\t')).is_empty()
    }

    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.0.iter().position(|&byte| !belongs(byte)).unwrap_or(self.0.len());
        let (run, rest) = self.0.split_at(length);
        self.0 = rest;
        run
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let token = self.run(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        (!token.is_empty()).then_some(token)
    }

    fn token68(&mut self) -> Option<()> {
        let text = self.run(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        self.run(|byte| byte == b'=');
        (!text.is_empty()).then_some(())
    }

    /// A name, `=` and a token or a quoted string, at the end of an element.
    fn param(&mut self) -> Option<(&'a [u8], Vec<u8>)> {
        let name = self.token()?;
        self.space();
        if !self.take(b'=') {
            return None;
        }
        self.space();
        let value = if self.take(b'"') { self.quoted()? } else { self.token()?.to_owned() };
        let mut after = *self;
        after.space();
        after.ends().then_some((name, value))
    }

    /// The rest of a quoted string, without its escapes.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return Some(text),
                b'\\' => {
                    let (&escaped, rest) = self.0.split_first()?;
                    self.0 = rest;
                    text.push(escaped);
                }
                plain => text.push(plain),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: &str = "tokenry/shop/eem";

    #[test]
    fn our_realm_is_found_wherever_a_challenge_may_have_it() {
        for header in [
            r#"Bearer realm="tokenry/shop/eem""#,
            r#"bearer REALM="tokenry/shop/eem""#,
            r#"Bearer realm = "tokenry/shop/eem""#,
            r#"Bearer   realm="tokenry/shop/eem" , error="invalid_token""#,
            r#"Bearer error="invalid_token", realm="tokenry/shop/eem""#,
            r#"Bearer realm="tokenry\/shop/\eem""#,
            r#"Basic realm="other", Bearer realm="tokenry/shop/eem""#,
            r#"Negotiate, Bearer realm="tokenry/shop/eem""#,
            r#"Negotiate YWJj==, Bearer realm="tokenry/shop/eem""#,
            r#"NTLM abc/+~._-, Bearer realm="tokenry/shop/eem""#,
            r#", ,Bearer realm="tokenry/shop/eem",,"#,
            r#"Digest realm="a, b", nonce="x\"y", Bearer realm="tokenry/shop/eem""#,
            r#"Bearer realm="tokenry/shop/eem", Basic realm="other""#,
            r#"Bearer , realm="tokenry/shop/eem""#,
        ] {
            assert!(has_realm(header.as_bytes(), OURS), "{header}");
        }
    }

    #[test]
    fn no_other_realm_and_no_other_parameter_is_taken_for_ours() {
        for header in [
            "",
            "Bearer",
            r#"Bearer realm="tokenry/shop/eem2""#,
            r#"Bearer realm="Tokenry/shop/eem""#,
            r#"Bearer realm="tokenry/shop/eem ""#,
            r#"Bearer realm="""#,
            r#"Bearer error="tokenry/shop/eem""#,
            r#"Bearer xrealm="tokenry/shop/eem""#,
            r#"Bearer error="realm=\"tokenry/shop/eem\"""#,
            r#"Bearer error="x, Bearer realm=tokenry/shop/eem""#,
            r#"Bearer realm="other", scope="realm=\"tokenry/shop/eem\"""#,
            "tokenry/shop/eem",
            "Bearer tokenry/shop/eem",
            "Bearer realm=tokenry/shop/eem",
        ] {
            assert!(!has_realm(header.as_bytes(), OURS), "{header}");
        }
    }

    #[test]
    fn a_header_that_breaks_the_grammar_has_no_challenge() {
        for header in [
            r#"realm="tokenry/shop/eem""#,
            r#"Bearer realm="tokenry/shop/eem"#,
            r#"Bearer realm="tokenry/shop/eem\"#,
            r#"Bearer realm="tokenry/shop/eem"x"#,
            r#"Bearer realm="tokenry/shop/eem" x"#,
            r#"Bearer realm="tokenry/shop/eem"; charset=utf-8"#,
            r#"Bearer realm="other", realm="tokenry/shop/eem""#,
            r#"Bearer realm="tokenry/shop/eem", realm="other""#,
            r#"Negotiate YWJj, realm="tokenry/shop/eem""#,
            r#"Bearer: realm="tokenry/shop/eem""#,
            r#"Bearer realm=="tokenry/shop/eem""#,
            r#"Bearer ="tokenry/shop/eem""#,
            r#"Bearer realm="tokenry/shop/eem", error="#,
        ] {
            assert_eq!(realms(header.as_bytes()), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(realms) = realms(&bytes) {
                prop_assert!(realms.len() <= bytes.len());
            }
        }

        #[test]
        fn any_realm_is_found_among_other_challenges(realm in "[ -~]{0,40}", other in "[a-z]{1,9}") {
            let escaped = realm.replace('\\', r"\\").replace('"', r#"\""#);
            let header = format!(r#"Basic realm="{other}-", {other} abc=, Bearer x=y, realm="{escaped}", z="{escaped}""#);
            prop_assert!(has_realm(header.as_bytes(), &realm), "{}", header);
        }
    }
}
