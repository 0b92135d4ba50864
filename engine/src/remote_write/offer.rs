//! Which compression an endpoint takes: what is configured, and what its answers say.
//!
//! Nothing tells beforehand. So zstd is offered, and a receiver that has never taken it and refuses
//! gets the same request again as snappy, and from then on snappy, until a restart or new settings.

use super::request::Compression;
use super::retry::SendResult;
use crate::config::CompressionChoice;

/// What is known of zstd at one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Taken,
    Refused,
}

/// What one queue sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    choice: CompressionChoice,
    known: Known,
}

impl Offer {
    pub(super) fn new(choice: CompressionChoice) -> Self {
        Self {
            choice,
            known: Known::Nothing,
        }
    }

    /// How requests are compressed from now on.
    pub(super) fn compression(&self) -> Compression {
        match (self.choice, self.known) {
            (CompressionChoice::Zstd, _)
            | (CompressionChoice::Auto, Known::Nothing | Known::Taken) => Compression::Zstd,
            _ => Compression::Snappy,
        }
    }

    /// Takes note of the answer to a request. Whether it may be the compression that is refused:
    /// then the request is to be sent again.
    pub(super) fn answered(&mut self, compression: Compression, result: &SendResult) -> bool {
        let SendResult::Status { code, .. } = result else {
            return false;
        };
        if compression == Compression::Snappy {
            return false;
        }
        // 415 says so. Receivers that do not look at the encoding fail to read the body: 400.
        let refused = match code {
            200..=299 => {
                self.known = Known::Taken;
                false
            }
            415 => true,
            400 | 406 => self.known != Known::Taken,
            _ => false,
        };
        if refused {
            self.known = Known::Refused;
        }
        refused && self.compression() == Compression::Snappy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> SendResult {
        SendResult::Status {
            code,
            retry_after_ms: None,
            reason: String::new(),
        }
    }

    #[test]
    fn zstd_is_given_up_when_it_was_never_taken_or_is_not_supported() {
        use Compression::{Snappy, Zstd};
        // Codes of answers to zstd; the last one is to be sent again; what is sent then.
        for (codes, again, then) in [
            (&[204][..], false, Zstd),
            (&[400], true, Snappy),
            (&[406], true, Snappy),
            (&[415], true, Snappy),
            (&[503], false, Zstd),
            (&[204, 400], false, Zstd),
            (&[204, 415], true, Snappy),
            (&[400, 400], true, Snappy),
            // Two at once: the other one shows that it was not the compression.
            (&[400, 204], false, Zstd),
        ] {
            let mut offer = Offer::new(CompressionChoice::Auto);
            assert_eq!(offer.compression(), Zstd);
            let said = codes
                .iter()
                .map(|code| offer.answered(Zstd, &status(*code)));
            assert_eq!(said.last(), Some(again), "{codes:?}");
            assert_eq!(offer.compression(), then, "{codes:?}");
            assert!(!offer.answered(Snappy, &status(415)));
        }
    }

    #[test]
    fn what_is_configured_holds() {
        let mut zstd = Offer::new(CompressionChoice::Zstd);
        assert!(!zstd.answered(Compression::Zstd, &status(415)));
        assert_eq!(zstd.compression(), Compression::Zstd);
        let snappy = Offer::new(CompressionChoice::Snappy);
        assert_eq!(snappy.compression(), Compression::Snappy);
    }
}
