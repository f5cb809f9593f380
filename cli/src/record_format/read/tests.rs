use super::*;
use proptest::prelude::*;

type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Reads everything, giving the input away in pieces of `step` bytes.
fn read_all(format: &str, input: &[u8], step: usize) -> Result<Vec<Pair>, FormatError> {
    let format = InputFormat::parse(format, Some(b"NULL"))?;
    let mut out = Vec::new();
    let (mut start, mut end) = (0, 0);
    loop {
        let last = end == input.len();
        if last && start == end {
            return Ok(out);
        }
        let more =
            if start == end { Input::More } else { format.read(&input[start..end], last)? };
        match more {
            Input::Record(record, used) => {
                let owned = |bytes: Option<Cow<'_, [u8]>>| bytes.map(Cow::into_owned);
                out.push((owned(record.key), owned(record.value)));
                start += used;
            }
            Input::More => end = (end + step).min(input.len()),
        }
    }
}

fn pair(key: &[u8], value: &[u8]) -> Pair {
    (Some(key.to_vec()), Some(value.to_vec()))
}

#[test]
fn keys_and_values_are_cut_at_their_literals() {
    let expected = vec![pair(b"a", b"1"), pair(b"", b"2:3"), pair(b"c", b"\xff\r")];
    for step in [1, 3, 100] {
        assert_eq!(read_all("%k:%v\\n", b"a:1\n:2:3\nc:\xff\r", step).unwrap(), expected);
    }
}

#[test]
fn a_line_without_the_separator_is_an_error_that_shows_it() {
    let error = read_all("%k:%v\\n", b"a:1\nnone\n", 100).unwrap_err();
    assert!(error.0.contains("there is no `:` in `none`"), "{error}");
}

#[test]
fn without_an_end_the_whole_input_is_one_record() {
    assert_eq!(read_all("%v", b"a\nb\n", 2).unwrap(), vec![(None, Some(b"a\nb\n".to_vec()))]);
}

#[test]
fn lengths_keep_every_byte_and_null_apart() {
    let input = b"\0\0\0\x01\0\0\0\x02k\n\n\xff\xff\xff\xff\0\0\0\0";
    let expected = vec![pair(b"k", b"\n\n"), (None, Some(Vec::new()))];
    for step in [1, 5, 100] {
        assert_eq!(read_all("%K{big32}%V{big32}%k%v", input, step).unwrap(), expected);
    }
    assert_eq!(read_all("%V %v\\n", b"3 a\nb\n1 x\n", 1).unwrap().len(), 2);
    assert_eq!(read_all("%v{2}", b"abcd", 1).unwrap().len(), 2);
    let error = read_all("%V{big32}%v", b"\0\0\0\x09short", 100).unwrap_err();
    assert!(error.0.contains("middle of a record"), "{error}");
}

#[test]
fn codings_partitions_timestamps_and_headers_are_read() {
    let format = InputFormat::parse("%p %T %h %k{hex} %v{base64}\\n", None).unwrap();
    let input = b"3 1709210096789 a=1,b,c= 6b6579 dv8=\nx";
    let Ok(Input::Record(record, used)) = format.read(input, false) else { panic!("no record") };
    assert_eq!(used, input.len() - 1);
    assert_eq!(record.partition, Some(3));
    assert_eq!(record.timestamp_ms, Some(1_709_210_096_789));
    assert_eq!(record.headers, vec![("a", Some(&b"1"[..])), ("b", None), ("c", Some(b""))]);
    assert_eq!(record.key.as_deref(), Some(&b"key"[..]));
    assert_eq!(record.value.as_deref(), Some(&b"v\xff"[..]));
}

#[test]
fn a_null_marker_makes_null() {
    assert_eq!(read_all("%k:%v\\n", b"k:NULL\n", 100).unwrap(), vec![(Some(b"k".to_vec()), None)]);
}

#[test]
fn formats_that_cannot_be_read_are_refused_with_the_reason() {
    for (format, reason) in [
        ("%k%v\\n", "put a literal between"),
        ("%o %v\\n", "cannot be read"),
        ("%p\\n", "neither"),
        ("%v{zip}\\n", "hex"),
        ("%V{big9}%v", "a length is one of"),
    ] {
        let error = InputFormat::parse(format, None).unwrap_err();
        assert!(error.0.contains(reason), "{format}: {error}");
    }
}

proptest! {
    /// What consume prints with lengths, produce reads back, whatever the bytes and the pieces.
    #[test]
    fn sized_input_is_read_back_exactly(
        records in prop::collection::vec(
            (prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
             prop::option::of(prop::collection::vec(any::<u8>(), 0..9))), 0..20),
        step in 1usize..50,
    ) {
        let mut input = Vec::new();
        for (key, value) in &records {
            for part in [key, value] {
                let len = part.as_ref().map_or(u32::MAX, |part| part.len() as u32);
                input.extend(len.to_le_bytes());
            }
            input.extend(key.iter().chain(value).flatten());
        }
        let format = "%K{little32}%V{little32}%k%v";
        let null = |part: &Option<Vec<u8>>| part.clone().filter(|part| part != b"NULL");
        let expected: Vec<Pair> = records.iter().map(|(k, v)| (null(k), null(v))).collect();
        prop_assert_eq!(read_all(format, &input, step).unwrap(), expected);
    }

    #[test]
    fn no_input_makes_a_format_panic(input in prop::collection::vec(any::<u8>(), 0..200), step in 1usize..20) {
        for format in ["%k:%v\\n", "%V{big8}%v", "%K %V %k%v\\n", "%v{json}\\n", "%p,%h,%v{hex}\\n"] {
            let _ = read_all(format, &input, step);
        }
    }
}
