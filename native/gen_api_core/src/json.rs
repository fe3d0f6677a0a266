//! How long a text is in JSON.

/// So many that their counts fit into bytes, of which a register of the processor has many.
const CHUNK: usize = 240;

/// The bytes of a text in JSON, with quotation marks and escapes; none if it is not UTF-8.
#[must_use]
pub fn text_size(text: &[u8]) -> Option<usize> {
    simdutf8::basic::from_utf8(text).ok()?;
    let mut controls = 0;
    let mut quoted = 0;
    for chunk in text.chunks(CHUNK) {
        let (mut control, mut quote) = (0_u8, 0_u8);
        for byte in chunk {
            control += u8::from(*byte < 0x20);
            quote += u8::from(matches!(byte, b'"' | b'\\'));
        }
        controls += usize::from(control);
        quoted += usize::from(quote);
    }
    // Most texts have nothing to escape.
    let escaped = if controls == 0 {
        quoted
    } else {
        text.iter().map(|byte| added(*byte)).sum()
    };
    Some(text.len() + escaped + 2)
}

/// What the escape of a byte takes beyond the byte itself: `\n` one more, `\u0001` five.
fn added(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 8 | 9 | 10 | 12 | 13 => 1,
        0..0x20 => 5,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::text_size;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_size_is_that_of_what_an_encoder_writes(text in "(?s).*") {
            let written = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(text_size(text.as_bytes()), Some(written.len()));
        }
    }

    #[test]
    fn what_is_no_text_has_no_size() {
        assert_eq!(text_size(b"a\xff"), None);
        assert_eq!(text_size("\u{7f}é\u{2028}".as_bytes()), Some(8));
    }
}
