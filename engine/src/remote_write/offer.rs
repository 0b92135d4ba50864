//! Which message and compression an endpoint takes: what is configured, and what its answers say.
//!
//! Nothing tells beforehand. So zstd is offered for 1.0 messages, and a receiver that has never
//! taken it and refuses gets the same request again as snappy, and from then on snappy. A receiver
//! that does not take 2.0 messages gets the same request again as 1.0, and from then on 1.0. Both
//! hold until a restart or new settings. For 2.0 the specification names snappy alone.

use super::request::{Compression, Form, Message};
use super::retry::SendResult;
use crate::config::{CompressionChoice, Endpoint, ProtobufMessage};

/// What is known of a form at one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Taken,
    Refused,
}

/// What an answer means for the request's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: the answer is about the content.
    Content,
    /// It may be the compression that is refused: the request is to be sent again.
    OtherCompression,
    /// The receiver does not take 2.0 messages: the request is to be sent again.
    OtherMessage,
}

/// What one queue sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    message: ProtobufMessage,
    choice: CompressionChoice,
    zstd: Known,
    second: Known,
}

impl Offer {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        Self {
            message: endpoint.protobuf_message,
            choice: endpoint.compression,
            zstd: Known::Nothing,
            second: Known::Nothing,
        }
    }

    /// What requests are from now on.
    pub(super) fn form(&self) -> Form {
        if self.message == ProtobufMessage::Version2 && self.second != Known::Refused {
            return Form::v2(match self.choice {
                CompressionChoice::Zstd => Compression::Zstd,
                CompressionChoice::Auto | CompressionChoice::Snappy => Compression::Snappy,
            });
        }
        Form::v1(match (self.choice, self.zstd) {
            (CompressionChoice::Zstd, _)
            | (CompressionChoice::Auto, Known::Nothing | Known::Taken) => Compression::Zstd,
            _ => Compression::Snappy,
        })
    }

    /// Takes note of the answer to a request of this form.
    pub(super) fn answered(&mut self, form: Form, result: &SendResult) -> Verdict {
        let SendResult::Status { code, written, .. } = result else {
            return Verdict::Content;
        };
        if form.message == Message::V2 {
            return self.second_answered(*code, written.is_some());
        }
        if form.compression == Compression::Snappy {
            return Verdict::Content;
        }
        // 415 says so. Receivers that do not look at the encoding fail to read the body: 400.
        let refused = match code {
            200..=299 => {
                self.zstd = Known::Taken;
                false
            }
            415 => true,
            400 | 406 => self.zstd != Known::Taken,
            _ => false,
        };
        if refused {
            self.zstd = Known::Refused;
        }
        match refused && self.form().compression == Compression::Snappy {
            true => Verdict::OtherCompression,
            false => Verdict::Content,
        }
    }

    /// A 2.0 receiver says what it has written, whether it succeeds or not. One that says nothing
    /// and succeeds has read the body as an empty 1.0 message.
    fn second_answered(&mut self, code: u16, says_written: bool) -> Verdict {
        let refused = match code {
            200..=299 => !says_written,
            415 => true,
            400 | 406 => !says_written && self.second != Known::Taken,
            _ => false,
        };
        if refused {
            self.second = Known::Refused;
            return Verdict::OtherMessage;
        }
        if says_written && self.second == Known::Nothing {
            self.second = Known::Taken;
        }
        Verdict::Content
    }
}

#[cfg(test)]
mod tests {
    use super::super::retry::Written;
    use super::*;

    fn status(code: u16, says_written: bool) -> SendResult {
        SendResult::Status {
            code,
            retry_after_ms: None,
            reason: String::new(),
            written: says_written.then(Written::default),
        }
    }

    fn offer(message: ProtobufMessage, choice: CompressionChoice) -> Offer {
        Offer {
            message,
            choice,
            zstd: Known::Nothing,
            second: Known::Nothing,
        }
    }

    #[test]
    fn zstd_is_given_up_when_it_was_never_taken_or_is_not_supported() {
        use Compression::{Snappy, Zstd};
        use Verdict::{Content, OtherCompression};
        // Codes of answers to zstd; what the last one says; what is sent then.
        for (codes, verdict, then) in [
            (&[204][..], Content, Zstd),
            (&[400], OtherCompression, Snappy),
            (&[406], OtherCompression, Snappy),
            (&[415], OtherCompression, Snappy),
            (&[503], Content, Zstd),
            (&[204, 400], Content, Zstd),
            (&[204, 415], OtherCompression, Snappy),
            (&[400, 400], OtherCompression, Snappy),
            // Two at once: the other one shows that it was not the compression.
            (&[400, 204], Content, Zstd),
        ] {
            let mut offer = offer(ProtobufMessage::Version1, CompressionChoice::Auto);
            assert_eq!(offer.form(), Form::v1(Zstd));
            let said = codes
                .iter()
                .map(|code| offer.answered(Form::v1(Zstd), &status(*code, false)));
            assert_eq!(said.last(), Some(verdict), "{codes:?}");
            assert_eq!(offer.form(), Form::v1(then), "{codes:?}");
            let snappy = Form::v1(Snappy);
            assert_eq!(offer.answered(snappy, &status(415, false)), Content);
        }
    }

    #[test]
    fn what_is_configured_holds() {
        let mut zstd = offer(ProtobufMessage::Version1, CompressionChoice::Zstd);
        let form = Form::v1(Compression::Zstd);
        assert_eq!(zstd.answered(form, &status(415, false)), Verdict::Content);
        assert_eq!(zstd.form(), form);
        let snappy = offer(ProtobufMessage::Version1, CompressionChoice::Snappy);
        assert_eq!(snappy.form(), Form::v1(Compression::Snappy));
        let second = offer(ProtobufMessage::Version2, CompressionChoice::Zstd);
        assert_eq!(second.form(), Form::v2(Compression::Zstd));
    }

    #[test]
    fn second_version_is_given_up_when_the_receiver_does_not_know_it() {
        use Verdict::{Content, OtherMessage};
        // Codes, and whether they say what was written; what the last one says.
        for (answers, verdict) in [
            (&[(204, true)][..], Content),
            (&[(204, false)], OtherMessage),
            (&[(415, false)], OtherMessage),
            (&[(415, true)], OtherMessage),
            (&[(400, false)], OtherMessage),
            (&[(400, true)], Content),
            (&[(503, false)], Content),
            (&[(429, false)], Content),
            (&[(204, true), (400, false)], Content),
            (&[(400, true), (400, false)], Content),
            // A receiver that was replaced by an older one.
            (&[(204, true), (204, false)], OtherMessage),
            (&[(204, true), (415, false)], OtherMessage),
        ] {
            let mut offer = offer(ProtobufMessage::Version2, CompressionChoice::Auto);
            let form = Form::v2(Compression::Snappy);
            assert_eq!(offer.form(), form);
            let said = answers
                .iter()
                .map(|(code, says)| offer.answered(form, &status(*code, *says)));
            assert_eq!(said.last(), Some(verdict), "{answers:?}");
            let then = match verdict {
                OtherMessage => Form::v1(Compression::Zstd),
                _ => form,
            };
            assert_eq!(offer.form(), then, "{answers:?}");
        }
    }
}
