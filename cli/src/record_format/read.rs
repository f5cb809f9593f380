//! Cutting input into records by a format.
//!
//! Without lengths in the format, its last literal ends a record, and what stands between two such ends
//! must follow the rest of the format. With lengths (`%V{big32}%v`) the input is read field by field.

use super::grammar::{
    Encoding, FormatError, HeaderRef, NUMBER_ENCODINGS, NumberEncoding, Token, fault, tokens,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use std::borrow::Cow;

/// A compiled format of `produce -f`.
#[derive(Clone, Debug)]
pub struct InputFormat {
    steps: Vec<Step>,
    /// What ends a record, if the format has no lengths.
    end: Option<Vec<u8>>,
    /// A key or value that reads so is null.
    null: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Step {
    Literal(Vec<u8>),
    Field(Field, Extent, Encoding),
    Length(Field, NumberEncoding),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Key,
    Value,
    Partition,
    Timestamp,
    /// `k=v,k=v`.
    Headers,
}

/// How far a field reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// To the literal behind it.
    Literal,
    /// To the end of the record.
    End,
    /// As long as its length said.
    ByLength,
    Exactly(usize),
}

/// A record as it was read; borrowed from the input unless it was coded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputRecord<'a> {
    pub key: Option<Cow<'a, [u8]>>,
    pub value: Option<Cow<'a, [u8]>>,
    pub partition: Option<u32>,
    pub timestamp_ms: Option<i64>,
    pub headers: Vec<HeaderRef<'a>>,
}

/// What stands at the start of a piece of input.
#[derive(Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// A record and the bytes it took.
    Record(InputRecord<'a>, usize),
    /// The record goes on behind the piece.
    More,
}

/// Why a record cannot be read yet, or ever.
enum ReadError {
    More,
    Fault(String),
}

impl From<FormatError> for ReadError {
    fn from(error: FormatError) -> Self {
        ReadError::Fault(error.0)
    }
}

impl InputFormat {
    pub fn parse(format: &str, null: Option<&[u8]>) -> Result<InputFormat, FormatError> {
        let mut tokens = tokens(format)?;
        let sized = tokens.iter().any(|token| match token {
            Token::Verb(verb, modifier) => {
                matches!(verb, 'K' | 'V' | 'S' | 's')
                    || modifier.as_ref().is_some_and(|text| text.parse::<usize>().is_ok())
            }
            Token::Literal(_) => false,
        });
        let end = match tokens.last() {
            Some(Token::Literal(bytes)) if !sized => Some(bytes.clone()),
            _ => None,
        };
        if end.is_some() {
            tokens.pop();
        }
        let steps = compile(&tokens)?;
        if !steps.iter().any(|step| matches!(step, Step::Field(Field::Key | Field::Value, ..))) {
            return fault("the format has neither %v nor %k");
        }
        Ok(InputFormat { steps, end, null: null.map(<[u8]>::to_vec) })
    }

    /// Reads the record at the start of `input`, which is not empty. `last`: nothing comes behind it; a
    /// record whose end is missing is complete then.
    pub fn read<'a>(&self, input: &'a [u8], last: bool) -> Result<Input<'a>, FormatError> {
        let (body, consumed, complete) = match &self.end {
            None => (input, None, last),
            Some(end) => match memmem::find(input, end) {
                Some(at) => (&input[..at], Some(at + end.len()), true),
                None if last => (input, Some(input.len()), true),
                None => return Ok(Input::More),
            },
        };
        match self.follow(body, complete) {
            Ok((record, used)) => match consumed {
                Some(_) if used < body.len() => {
                    fault(format!("`{}` stands behind the last field", excerpt(&body[used..])))
                }
                Some(consumed) => Ok(Input::Record(record, consumed)),
                None => Ok(Input::Record(record, used)),
            },
            Err(ReadError::More) if complete => fault("the input ends in the middle of a record"),
            Err(ReadError::More) => Ok(Input::More),
            Err(ReadError::Fault(text)) => Err(FormatError(text)),
        }
    }

    /// Takes the steps; gives the record and the bytes used.
    fn follow<'a>(
        &self,
        input: &'a [u8],
        complete: bool,
    ) -> Result<(InputRecord<'a>, usize), ReadError> {
        let mut record = InputRecord::default();
        let mut lengths = [None::<i64>; 2];
        let mut at = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let rest = &input[at..];
            at += match step {
                Step::Literal(bytes) => literal(rest, bytes, complete)?,
                Step::Length(field, encoding) => {
                    let (number, used) = length(rest, *encoding, complete)?;
                    lengths[usize::from(*field == Field::Value)] = Some(number);
                    used
                }
                Step::Field(field, extent, encoding) => {
                    let told = lengths[usize::from(*field == Field::Value)];
                    let (bytes, used) = match extent {
                        Extent::End if !complete => return Err(ReadError::More),
                        Extent::End => (Some(rest), rest.len()),
                        Extent::Exactly(count) => exactly(rest, *count as i64)?,
                        Extent::ByLength => exactly(rest, told.unwrap_or(-1))?,
                        Extent::Literal => self.until_literal(rest, index, complete)?,
                    };
                    self.put(&mut record, *field, bytes, *encoding)?;
                    used
                }
            };
        }
        Ok((record, at))
    }

    fn until_literal<'a>(
        &self,
        rest: &'a [u8],
        index: usize,
        complete: bool,
    ) -> Result<(Option<&'a [u8]>, usize), ReadError> {
        let Some(Step::Literal(mark)) = self.steps.get(index + 1) else {
            unreachable!("compile() gives this extent only in front of a literal");
        };
        match memmem::find(rest, mark) {
            Some(at) => Ok((Some(&rest[..at]), at)),
            None if complete => {
                let (mark, rest) = (excerpt(mark), excerpt(rest));
                Err(ReadError::Fault(format!("there is no `{mark}` in `{rest}`")))
            }
            None => Err(ReadError::More),
        }
    }

    fn put<'a>(
        &self,
        record: &mut InputRecord<'a>,
        field: Field,
        bytes: Option<&'a [u8]>,
        encoding: Encoding,
    ) -> Result<(), ReadError> {
        let bytes = bytes.filter(|bytes| self.null.as_deref() != Some(*bytes));
        match field {
            Field::Key => record.key = bytes.map(|bytes| decode(bytes, encoding)).transpose()?,
            Field::Value => {
                record.value = bytes.map(|bytes| decode(bytes, encoding)).transpose()?
            }
            Field::Partition => record.partition = Some(ascii(bytes, "a partition")?),
            Field::Timestamp => record.timestamp_ms = Some(ascii(bytes, "a timestamp in ms")?),
            Field::Headers => record.headers = headers(bytes.unwrap_or_default())?,
        }
        Ok(())
    }
}

fn literal(rest: &[u8], bytes: &[u8], complete: bool) -> Result<usize, ReadError> {
    if rest.starts_with(bytes) {
        Ok(bytes.len())
    } else if bytes.starts_with(rest) && !complete {
        Err(ReadError::More)
    } else {
        let (wanted, found) = (excerpt(bytes), excerpt(rest));
        Err(ReadError::Fault(format!("`{wanted}` was expected where `{found}` stands")))
    }
}

/// -1 is null.
fn exactly(rest: &[u8], count: i64) -> Result<(Option<&[u8]>, usize), ReadError> {
    let Ok(count) = usize::try_from(count) else {
        return Ok((None, 0));
    };
    rest.get(..count).map(|bytes| (Some(bytes), count)).ok_or(ReadError::More)
}

fn length(
    rest: &[u8],
    encoding: NumberEncoding,
    complete: bool,
) -> Result<(i64, usize), ReadError> {
    let Some(width) = encoding.width() else {
        let used = rest.iter().take_while(|b| b.is_ascii_digit() || **b == b'-').count();
        if used == rest.len() && !complete {
            return Err(ReadError::More);
        }
        return Ok((ascii(Some(&rest[..used]), "a length")?, used));
    };
    let bytes = rest.get(..width).ok_or(ReadError::More)?;
    let unsigned = match encoding {
        NumberEncoding::Hex { .. } => str::from_utf8(bytes)
            .ok()
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .ok_or_else(|| {
                ReadError::Fault(format!("`{}` is no hexadecimal length", excerpt(bytes)))
            })?,
        NumberEncoding::Little { .. } => {
            bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        }
        NumberEncoding::Big { .. } | NumberEncoding::Ascii => {
            bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
        }
    };
    let bits = if matches!(encoding, NumberEncoding::Hex { .. }) { width * 4 } else { width * 8 };
    let all_ones = u64::MAX >> (64 - bits);
    match i64::try_from(unsigned) {
        _ if unsigned == all_ones => Ok((-1, width)),
        Ok(number) if number < 1 << 32 => Ok((number, width)),
        _ => Err(ReadError::Fault(format!("a length of {unsigned} cannot be"))),
    }
}

fn ascii<T: std::str::FromStr>(bytes: Option<&[u8]>, what: &str) -> Result<T, ReadError> {
    let bytes = bytes.unwrap_or_default();
    let number = str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| ReadError::Fault(format!("`{}` is not {what}", excerpt(bytes))))
}

fn decode(bytes: &[u8], encoding: Encoding) -> Result<Cow<'_, [u8]>, FormatError> {
    let decoded = match encoding {
        Encoding::Plain => return Ok(Cow::Borrowed(bytes)),
        Encoding::Hex => hex(bytes),
        Encoding::Base64 => STANDARD.decode(bytes).ok(),
        // A string is what is in it; of anything else, the text itself is the value.
        Encoding::Json => match serde_json::from_slice::<String>(bytes) {
            Ok(text) => Some(text.into_bytes()),
            Err(_) => {
                let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
                is_json.then(|| bytes.to_vec())
            }
        },
    };
    match decoded {
        Some(decoded) => Ok(Cow::Owned(decoded)),
        None => fault(format!("`{}` is not valid {encoding:?}", excerpt(bytes)).to_lowercase()),
    }
}

fn hex(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digits = str::from_utf8(bytes).ok().filter(|_| bytes.len().is_multiple_of(2))?;
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

fn headers(bytes: &[u8]) -> Result<Vec<HeaderRef<'_>>, ReadError> {
    let mut out = Vec::new();
    for pair in bytes.split(|byte| *byte == b',').filter(|pair| !pair.is_empty()) {
        let (key, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (&pair[..at], Some(&pair[at + 1..])),
            None => (pair, None),
        };
        let key = str::from_utf8(key).map_err(|_| {
            ReadError::Fault(format!("the header key `{}` is not UTF-8", excerpt(key)))
        })?;
        out.push((key, value));
    }
    Ok(out)
}

/// The beginning of some input, fit to be shown.
fn excerpt(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(40)].escape_ascii().to_string();
    if bytes.len() > 40 { shown + "…" } else { shown }
}

fn compile(tokens: &[Token]) -> Result<Vec<Step>, FormatError> {
    let mut steps = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let (verb, modifier) = match token {
            Token::Literal(bytes) => {
                steps.push(Step::Literal(bytes.clone()));
                continue;
            }
            Token::Verb(verb, modifier) => (*verb, modifier.as_deref()),
        };
        let field = match verb {
            'k' | 'K' => Field::Key,
            'v' | 'V' | 's' | 'S' => Field::Value,
            'p' => Field::Partition,
            'T' | 'd' => Field::Timestamp,
            'h' => Field::Headers,
            _ => {
                return fault(format!(
                    "`%{verb}` cannot be read; use %v %k %p %T %h, or the lengths %V and %K"
                ));
            }
        };
        if matches!(verb, 'K' | 'V' | 's' | 'S') {
            let encoding = NumberEncoding::named(modifier.unwrap_or("ascii"));
            match encoding {
                Some(encoding) => steps.push(Step::Length(field, encoding)),
                None => return fault(format!("a length is one of {NUMBER_ENCODINGS}")),
            }
            continue;
        }
        let told = steps.iter().any(|step| matches!(step, Step::Length(of, _) if *of == field));
        let exact = modifier.and_then(|text| text.parse::<usize>().ok());
        let extent = match (exact, told, tokens.get(index + 1)) {
            (Some(count), ..) => Extent::Exactly(count),
            (None, true, _) => Extent::ByLength,
            (None, false, Some(Token::Literal(_))) => Extent::Literal,
            (None, false, None) => Extent::End,
            (None, false, Some(Token::Verb(next, _))) => {
                return fault(format!(
                    "nothing tells where %{verb} ends: put a literal between %{verb} and %{next}, \
                     or the length in front"
                ));
            }
        };
        let encoding = match modifier {
            Some(_) if exact.is_some() => Encoding::Plain,
            None => Encoding::Plain,
            Some(name) => match Encoding::named(name) {
                Some(encoding) if matches!(field, Field::Key | Field::Value) => encoding,
                _ => {
                    return fault(format!(
                        "`%{verb}{{{name}}}` cannot be read; use hex, base64 or json"
                    ));
                }
            },
        };
        steps.push(Step::Field(field, extent, encoding));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests;
