//! One series of a block and its target -> label names and values, sorted as they are sent.

use crate::definition::{Block, Target};

/// The labels of entry `index`, those of the target in their places; `None` if the bytes are not
/// what FORMAT.md says, or the target lacks a label.
pub fn series_labels<'a>(
    block: &'a Block,
    index: u32,
    target: &'a Target,
) -> Option<Vec<(&'a str, &'a str)>> {
    let (range, holes) = block.entry(index);
    let mut labels = Vec::new();
    let mut at = range.start;
    for hole in holes {
        let end = hole.offset as usize;
        take_labels(block.bytes.get(at..end)?, &mut labels)?;
        let (name, value) = target.labels.get(usize::from(hole.target_label))?;
        labels.push((&**name, &**value));
        at = end;
    }
    take_labels(block.bytes.get(at..range.end)?, &mut labels)?;
    Some(labels)
}

/// `0a len { 0a len name 12 len value }`, repeated.
fn take_labels<'a>(mut bytes: &'a [u8], labels: &mut Vec<(&'a str, &'a str)>) -> Option<()> {
    while !bytes.is_empty() {
        let mut label = take_field(&mut bytes, 0x0a)?;
        let name = take_field(&mut label, 0x0a)?;
        let value = take_field(&mut label, 0x12)?;
        labels.push((
            std::str::from_utf8(name).ok()?,
            std::str::from_utf8(value).ok()?,
        ));
    }
    Some(())
}

fn take_field<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (first, mut rest) = bytes.split_first()?;
    if *first != tag {
        return None;
    }
    let mut len = 0usize;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        rest = after;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (field, after) = rest.split_at_checked(len)?;
            *bytes = after;
            return Some(field);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{BlockEntry, Hole};

    fn label(name: &str, value: &str) -> Vec<u8> {
        let mut inner = vec![0x0a, name.len() as u8];
        inner.extend_from_slice(name.as_bytes());
        inner.push(0x12);
        // A length in two bytes, as long values have.
        let long = value.len() >= 0x80;
        if long {
            inner.push((value.len() & 0x7f) as u8 | 0x80);
        }
        inner.push((value.len() >> if long { 7 } else { 0 }) as u8);
        inner.extend_from_slice(value.as_bytes());
        let mut bytes = vec![0x0a];
        if inner.len() >= 0x80 {
            bytes.push((inner.len() & 0x7f) as u8 | 0x80);
            bytes.push((inner.len() >> 7) as u8);
        } else {
            bytes.push(inner.len() as u8);
        }
        bytes.extend(inner);
        bytes
    }

    fn target() -> Target {
        Target {
            id: 1,
            key: 1,
            labels: [
                ("instance".into(), "h:1".into()),
                ("job".into(), "j".into()),
            ]
            .into(),
        }
    }

    #[test]
    fn labels_of_the_target_stand_in_their_holes() {
        let long = "v".repeat(200);
        let first = label("__name__", "up");
        let (name, path) = (label("__name__", "x"), label("path", &long));
        let hole_at = first.len();
        let mut bytes = first.clone();
        bytes.extend([name.clone(), path].concat());
        let block = Block {
            id: 1,
            entries: [
                BlockEntry {
                    bytes_end: hole_at as u32,
                    holes_end: 2,
                },
                BlockEntry {
                    bytes_end: bytes.len() as u32,
                    holes_end: 3,
                },
            ]
            .into(),
            holes: [(hole_at, 0), (hole_at, 1), (hole_at + name.len(), 1)]
                .map(|(offset, target_label)| Hole {
                    offset: offset as u32,
                    target_label,
                })
                .into(),
            bytes: bytes.into(),
            families: [].into(),
        };
        let target = target();
        assert_eq!(
            series_labels(&block, 0, &target).unwrap(),
            [("__name__", "up"), ("instance", "h:1"), ("job", "j")]
        );
        assert_eq!(
            series_labels(&block, 1, &target).unwrap(),
            [("__name__", "x"), ("job", "j"), ("path", long.as_str())]
        );
        let poor = Target {
            labels: [].into(),
            ..target
        };
        assert_eq!(series_labels(&block, 0, &poor), None);
    }

    #[test]
    fn bytes_that_are_no_labels_are_refused() {
        let sound = label("a", "b");
        for cut in 1..sound.len() {
            let mut labels = Vec::new();
            assert_eq!(take_labels(&sound[..cut], &mut labels), None, "{cut}");
        }
        let mut labels = Vec::new();
        assert_eq!(
            take_labels(&[0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 1], &mut labels),
            None
        );
    }
}
