//! Cuts the messages of a folder into batches, each of which is worked on and committed as one.

/// How large a batch may be.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Messages.
    pub messages: usize,
    /// Bytes, but for a first message that is larger by itself.
    pub bytes: u64,
}

/// Batches of `items`, in their order, that are no larger than `most`. `size` tells an item's bytes; one that is `alone` is a
/// batch by itself.
pub fn batches<T>(
    items: &[T],
    most: Most,
    size: impl Fn(&T) -> u64,
    alone: impl Fn(&T) -> bool,
) -> Vec<&[T]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        let apart = at > 0 && (alone(item) || alone(&items[at - 1]));
        if at > start && (apart || at - start == most.messages || bytes + size(item) > most.bytes) {
            batches.push(&items[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += size(item);
    }
    if start < items.len() {
        batches.push(&items[start..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_all_and_not_too_much() {
        let items: Vec<(u32, u64)> =
            (0..100).map(|number| (number, if number % 10 == 0 { 50 } else { 1 })).collect();
        let alone = |number: u32| [5, 6, 99].contains(&number);
        for messages in [1, 2, 7, 16, 200] {
            let batches = batches(&items, Most { messages, bytes: 50 }, |it| it.1, |it| alone(it.0));
            assert_eq!(batches.concat(), items);
            for batch in batches {
                assert!(!batch.is_empty() && batch.len() <= messages);
                assert!(batch.iter().skip(1).map(|(_, bytes)| bytes).sum::<u64>() <= 50);
                assert!(batch.len() == 1 || !batch.iter().any(|(number, _)| alone(*number)));
            }
        }
        assert!(batches(&[], Most { messages: 2, bytes: 1 }, |_: &u8| 1, |_| false).is_empty());
    }
}
