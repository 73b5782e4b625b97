//! Which of the updates that the service has accepted are reports of ours.
//!
//! In: reports that were sent, and accepted updates, each with its token and what it says. Out: whose an update is. Pure. A token is no
//! secret: it stands in every answer, and others can give it to an update of theirs. So one counts as ours by the token of a report
//! that is under way, or was never answered, and by saying what that said; a token of a question, of a refused report or of
//! one that is answered makes nothing ours.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::shadow_request::{Requests, ShadowRequest};
use super::shadow_session::ShadowSession;
use crate::quarantine::proof::reported::without_nulls;

/// Reports without an answer that are remembered: it may come late.
const MOST_UNANSWERED: usize = 8;
/// Answered reports that are remembered: an acceptance comes by each subscription that there is.
const MOST_ANSWERED: usize = 64;

/// Reports that are not under way any more.
#[derive(Debug, Default)]
pub(super) struct OwnReports {
    /// Those that nobody has answered.
    unanswered: VecDeque<ShadowRequest>,
    /// The token of each other one, and the version that it became.
    answered: VecDeque<(String, u64)>,
}

/// Whose an accepted update is.
#[derive(Debug)]
pub(super) enum Whose {
    /// It is the report that was under way.
    Ours(ShadowRequest),
    /// A report of ours that is not under way: it is answered late, or again.
    OursBefore {
        token: String,
    },
    Others,
}

impl OwnReports {
    /// Nobody answers it, and it may have come to the service all the same.
    pub(super) fn left_unanswered(&mut self, report: ShadowRequest) {
        if self.unanswered.len() >= MOST_UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(report);
    }

    /// Whose an update is that says this of our part of `reported`; one that was under way is not any more.
    pub(super) fn whose(
        &mut self,
        under_way: &mut Requests,
        token: Option<&str>,
        version: u64,
        said: Option<&Value>,
    ) -> Whose {
        let Some(token) = token else {
            return Whose::Others;
        };
        let before = || Whose::OursBefore {
            token: token.to_owned(),
        };
        let is_it = |report: &ShadowRequest| report.token == token && says(report, said);
        if self
            .answered
            .iter()
            .any(|(known, became)| known == token && *became == version)
        {
            return before();
        }
        let whose = if let Some(report) = under_way.take_if(is_it) {
            Whose::Ours(report)
        } else if let Some(place) = self.unanswered.iter().position(is_it) {
            self.unanswered.remove(place);
            before()
        } else {
            return Whose::Others;
        };
        if self.answered.len() >= MOST_ANSWERED {
            self.answered.pop_front();
        }
        self.answered.push_back((token.to_owned(), version));
        whose
    }
}

impl ShadowSession {
    /// Whatever is under way is not waited for: its answer may be among what nobody heard.
    pub(super) fn forget_under_way(&mut self) {
        self.get.forget();
        for report in self.update.forget() {
            self.own.left_unanswered(report);
        }
    }
}

/// Whether an update that says this is that report, as far as it matters: the service need not repeat the rest as it was written.
fn says(report: &ShadowRequest, said: Option<&Value>) -> bool {
    let nothing = json!(null);
    let of = |reported: &Value| {
        let status = &reported["quarantineStatus"];
        let parts = [&reported["quarantine"], &status["state"], &status["posture"]];
        parts.map(without_nulls)
    };
    of(said.unwrap_or(&nothing)) == of(&report.body["state"]["reported"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::shadow_request::Tokens;
    use std::time::Duration;

    fn report(tokens: &mut Tokens) -> ShadowRequest {
        let reported = json!({"quarantine": true, "quarantineStatus": {"state": "enforced", "orders": null}});
        tokens.request(Duration::ZERO, json!({"state": {"reported": reported}}))
    }

    #[test]
    fn an_update_is_ours_by_a_token_that_waits_for_its_answer_and_by_what_it_says() {
        let (mut tokens, mut own, mut under_way) =
            (Tokens::new("seed"), OwnReports::default(), Requests::default());
        let question = tokens.request(Duration::ZERO, json!({}));
        let lost = report(&mut tokens);
        own.left_unanswered(lost.clone());
        let sent = report(&mut tokens);
        under_way.send(sent.clone());
        let said = json!({"quarantine": true, "quarantineStatus": {"state": "enforced"}});
        let other = json!({"quarantine": false, "quarantineStatus": {"state": "released"}});
        let mut whose = |token: &str, version: u64, said: Option<&Value>| match own.whose(
            &mut under_way,
            Some(token),
            version,
            said,
        ) {
            Whose::Ours(_) => "ours",
            Whose::OursBefore { .. } => "before",
            Whose::Others => "others",
        };
        for token in [&question.token, "seed-0", "another"] {
            assert_eq!(whose(token, 7, Some(&said)), "others", "{token}");
        }
        for token in [&sent.token, &lost.token] {
            assert_eq!(whose(token, 8, Some(&other)), "others");
            assert_eq!(whose(token, 8, None), "others");
        }
        assert_eq!(whose(&sent.token, 9, Some(&said)), "ours");
        assert_eq!(whose(&lost.token, 10, Some(&said)), "before");
        for (token, version) in [(&sent.token, 9), (&lost.token, 10)] {
            assert_eq!(
                whose(token, version, Some(&said)),
                "before",
                "by another subscription"
            );
            assert_eq!(whose(token, 11, Some(&said)), "others");
        }
    }
}
