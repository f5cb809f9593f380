//! What printing and reading have in common: how a format is cut into tokens, and how bytes and numbers are coded.

use std::fmt;

/// A header: its name, and its value or none.
pub type HeaderRef<'a> = (&'a str, Option<&'a [u8]>);

/// What is wrong with a format, or with input that should follow one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError(pub String);

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub fn fault<T>(text: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError(text.into()))
}

/// A part of a format: bytes as they are, or a verb with what stands in its braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    Literal(Vec<u8>),
    Verb(char, Option<String>),
}

/// Cuts a format into tokens; neighbouring literals are one.
pub fn tokens(format: &str) -> Result<Vec<Token>, FormatError> {
    let mut out: Vec<Token> = Vec::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        let mut utf8 = [0; 4];
        match first {
            '%' => {
                let Some(verb) = rest.chars().next() else {
                    return fault("a `%` stands at the end; write %% for a percent sign");
                };
                rest = &rest[verb.len_utf8()..];
                if matches!(verb, '%' | '{' | '}') {
                    literal(&mut out, verb.encode_utf8(&mut utf8).as_bytes());
                    continue;
                }
                let modifier = if rest.starts_with('{') {
                    let inner = braced(rest)?;
                    rest = &rest[inner.len() + 2..];
                    Some(inner.to_owned())
                } else {
                    None
                };
                out.push(Token::Verb(verb, modifier));
            }
            '\\' => {
                let (byte, len) = escape(rest)?;
                literal(&mut out, &[byte]);
                rest = &rest[len..];
            }
            other => literal(&mut out, other.encode_utf8(&mut utf8).as_bytes()),
        }
    }
    Ok(out)
}

/// A text with backslash escapes, as bytes: for separators on the command line.
pub fn unescape(text: &str) -> Result<Vec<u8>, FormatError> {
    let doubled = text.replace('%', "%%");
    let mut bytes = Vec::new();
    for token in tokens(&doubled)? {
        if let Token::Literal(literal) = token {
            bytes.extend(literal);
        }
    }
    Ok(bytes)
}

fn literal(out: &mut Vec<Token>, bytes: &[u8]) {
    match out.last_mut() {
        Some(Token::Literal(last)) => last.extend_from_slice(bytes),
        _ => out.push(Token::Literal(bytes.to_vec())),
    }
}

/// What stands between the brace at the start and its partner; `%{` and `%}` are no braces.
fn braced(text: &str) -> Result<&str, FormatError> {
    let bytes = text.as_bytes();
    let mut depth = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' if matches!(bytes.get(at + 1), Some(b'{' | b'}' | b'%')) => at += 1,
            b'\\' => at += 1,
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(&text[1..at]);
                }
            }
            _ => {}
        }
        at += 1;
    }
    fault(format!("the brace in `{text}` is not closed"))
}

/// The byte that an escape stands for, and how long the escape is behind its backslash.
fn escape(rest: &str) -> Result<(u8, usize), FormatError> {
    let byte = match rest.as_bytes().first() {
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'0') => 0,
        Some(b'\\') => b'\\',
        Some(b'x') => {
            let digits = rest.get(1..3).unwrap_or_default();
            return match u8::from_str_radix(digits, 16) {
                Ok(byte) => Ok((byte, 3)),
                Err(_) => fault("`\\x` needs two hexadecimal digits"),
            };
        }
        _ => return fault("a backslash is followed by n, r, t, 0, xHH or another backslash"),
    };
    Ok((byte, 1))
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    Hex,
    Base64,
    Json,
}

impl Encoding {
    pub fn named(name: &str) -> Option<Encoding> {
        match name {
            "hex" => Some(Encoding::Hex),
            "base64" => Some(Encoding::Base64),
            "json" => Some(Encoding::Json),
            _ => None,
        }
    }
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberEncoding {
    Ascii,
    /// As many hexadecimal digits as the bits need.
    Hex {
        bits: u32,
    },
    Big {
        bits: u32,
    },
    Little {
        bits: u32,
    },
}

impl NumberEncoding {
    pub fn named(name: &str) -> Option<NumberEncoding> {
        if matches!(name, "ascii" | "number") {
            return Some(NumberEncoding::Ascii);
        }
        if name == "byte" {
            return Some(NumberEncoding::Big { bits: 8 });
        }
        let digits = name.find(|c: char| c.is_ascii_digit())?;
        let (kind, bits) = name.split_at(digits);
        let bits = bits.parse().ok().filter(|bits| matches!(bits, 8 | 16 | 32 | 64))?;
        match kind {
            "hex" => Some(NumberEncoding::Hex { bits }),
            "big" => Some(NumberEncoding::Big { bits }),
            "little" => Some(NumberEncoding::Little { bits }),
            _ => None,
        }
    }

    /// How many bytes it takes, if that is always the same.
    pub fn width(self) -> Option<usize> {
        match self {
            NumberEncoding::Ascii => None,
            NumberEncoding::Hex { bits } => Some(bits as usize / 4),
            NumberEncoding::Big { bits } | NumberEncoding::Little { bits } => {
                Some(bits as usize / 8)
            }
        }
    }
}

pub const NUMBER_ENCODINGS: &str = "ascii, hex8 to hex64, big8 to big64, little8 to little64, byte";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_cut_into_literals_and_verbs() {
        assert_eq!(
            tokens("a%k{hex}:%v\\n%%\\x41").unwrap(),
            vec![
                Token::Literal(b"a".to_vec()),
                Token::Verb('k', Some("hex".into())),
                Token::Literal(b":".to_vec()),
                Token::Verb('v', None),
                Token::Literal(b"\n%A".to_vec()),
            ]
        );
        assert_eq!(
            tokens("%h{%k{hex}%}%{}").unwrap(),
            vec![Token::Verb('h', Some("%k{hex}%}%{".into()))]
        );
    }

    #[test]
    fn a_faulty_format_is_refused_with_the_reason() {
        for (format, reason) in [
            ("%", "%%"),
            ("%v{hex", "not closed"),
            ("\\q", "backslash"),
            ("\\xZZ", "hexadecimal"),
            ("tail\\", "backslash"),
        ] {
            let error = tokens(format).unwrap_err();
            assert!(error.0.contains(reason), "{format}: {error}");
        }
    }

    #[test]
    fn separators_have_escapes_too() {
        assert_eq!(unescape("\\t").unwrap(), b"\t");
        assert_eq!(unescape("100%").unwrap(), b"100%");
        assert_eq!(unescape("ü").unwrap(), "ü".as_bytes());
    }
}
