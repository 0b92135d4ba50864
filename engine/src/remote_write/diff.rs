//! Two series' label bytes -> the edits that make the one of the other.

use super::wire::{LabelParts, label_parts};

/// Shorter repetitions are written out: referring to them costs as much.
pub(super) const COPY_LEN_MIN: usize = 4;

/// Own bytes of an entry, in place of `replaced` bytes of the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit {
    /// In the block's bytes.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) replaced: usize,
}

/// Appends the edits that make `new`, which stands at `start`, of `old`: label by label, both
/// sorted by name.
pub(super) fn diff(old: &[u8], new: &[u8], start: usize, edits: &mut Vec<Edit>) {
    let equal = common_prefix(old, new);
    if equal == old.len() && equal == new.len() {
        return;
    }
    // Labels before the first difference are the same ones.
    let mut label = 0;
    while let Some(parts) = label_parts(new, label)
        && parts.end <= equal
    {
        label = parts.end;
    }
    let (mut old_at, mut new_at) = (label, label);
    while old_at < old.len() || new_at < new.len() {
        let there = label_parts(old, old_at);
        let here = label_parts(new, new_at);
        match (there, here) {
            (Some(there), Some(here)) if old[there.name.clone()] == new[here.name.clone()] => {
                diff_label((old, &there, old_at), (new, &here, new_at), start, edits);
                (old_at, new_at) = (there.end, here.end);
            }
            (Some(there), here)
                if here.as_ref().map_or(new_at == new.len(), |here| {
                    old[there.name.clone()] < new[here.name.clone()]
                }) =>
            {
                let place = start + new_at;
                push(edits, place, place, there.end - old_at);
                old_at = there.end;
            }
            (there, Some(here)) if there.is_some() || old_at == old.len() => {
                push(edits, start + new_at, start + here.end, 0);
                new_at = here.end;
            }
            // Not labels: as plain bytes.
            _ => {
                diff_plain(&old[old_at..], &new[new_at..], start + new_at, edits);
                return;
            }
        }
    }
}

/// Two labels of the same name.
fn diff_label(
    (old, there, old_at): (&[u8], &LabelParts, usize),
    (new, here, new_at): (&[u8], &LabelParts, usize),
    start: usize,
    edits: &mut Vec<Edit>,
) {
    if there.end - old_at == here.end - new_at {
        diff_plain(
            &old[old_at..there.end],
            &new[new_at..here.end],
            start + new_at,
            edits,
        );
        return;
    }
    // Other lengths: that of the label, that of the value, and the value.
    let parts = |parts: &LabelParts, at: usize| {
        [
            at..parts.name_field,
            parts.name_field..parts.value_len,
            parts.value_len..parts.value,
            parts.value..parts.end,
        ]
    };
    for (old_part, new_part) in parts(there, old_at).into_iter().zip(parts(here, new_at)) {
        let place = start + new_part.start;
        diff_plain(&old[old_part], &new[new_part], place, edits);
    }
}

/// What is between the equal bytes at the beginning and those at the end.
fn diff_plain(old: &[u8], new: &[u8], start: usize, edits: &mut Vec<Edit>) {
    let prefix = common_prefix(old, new);
    let (old, new) = (&old[prefix..], &new[prefix..]);
    let suffix = common_suffix(old, new);
    let start = start + prefix;
    push(edits, start, start + new.len() - suffix, old.len() - suffix);
}

fn push(edits: &mut Vec<Edit>, start: usize, end: usize, replaced: usize) {
    if start < end || replaced > 0 {
        edits.push(Edit {
            start,
            end,
            replaced,
        });
    }
}

/// Joins edits with less than `COPY_LEN_MIN` equal bytes between them; also with the beginning
/// (`first`) and the end (`last`) of the entry, if they are given.
pub(super) fn merge_near(edits: &mut Vec<Edit>, first: Option<usize>, last: Option<usize>) {
    if let (Some(first), Some(edit)) = (first, edits.first_mut())
        && edit.start - first < COPY_LEN_MIN
    {
        edit.replaced += edit.start - first;
        edit.start = first;
    }
    edits.dedup_by(|next, edit| {
        let gap = next.start - edit.end;
        let near = gap < COPY_LEN_MIN;
        if near {
            edit.end = next.end;
            edit.replaced += gap + next.replaced;
        }
        near
    });
    if let (Some(last), Some(edit)) = (last, edits.last_mut())
        && last - edit.end < COPY_LEN_MIN
    {
        edit.replaced += last - edit.end;
        edit.end = last;
    }
}

/// Number of equal bytes at the beginning.
#[inline]
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut len = 0;
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let different = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if different != 0 {
            return len + different.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    let rest = a[len..].iter().zip(&b[len..]);
    len + rest.take_while(|(a, b)| a == b).count()
}

/// Number of equal bytes at the end.
#[inline]
pub(super) fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let both = a.iter().rev().zip(b.iter().rev());
    both.take_while(|(a, b)| a == b).count()
}
