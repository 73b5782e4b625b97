//! Lines of requests and answers: today's, those of programs before protocols had numbers, and those of other protocols.

use serde_json::json;

use super::*;
use crate::control::question::{GetStatus, GiveOrder, ListSockets, ReleaseOrders, SendReport};

fn read(text: &str) -> IncomingRequest {
    read_request(text, MAX_ORDER_REQUEST)
}

fn refusal(text: &str) -> String {
    read(text).request.unwrap_err()
}

#[test]
fn requests_are_read_strictly() {
    assert_eq!(read(r#"{"command":"status"}"#).request, Ok(GetStatus {}.into()));
    for text in [
        r#"{"command":"reboot"}"#,
        r#"{"command":"status","more":1}"#,
        r#"{"command":"report","question":"show","more":1}"#,
        r#"{"command":"report","question":"burn"}"#,
        r#"{"command":"connections","query":{"listening":true,"more":1}}"#,
        r#"{"command":"order"}"#,
        "[]",
        "",
    ] {
        assert!(refusal(text).contains("the request cannot be read"), "{text}");
    }
    let no_reason = r#"{"command":"quarantine"}"#;
    assert!(read(no_reason).request.is_err(), "a reason is required");
}

/// The lines that programs wrote before protocols had numbers, as they wrote them.
#[test]
fn an_unnumbered_request_is_understood_and_answered_without_a_number() {
    for (line, request) in [
        (r#"{"command":"status"}"#, Request::from(GetStatus {})),
        (r#"{"command":"report","question":"send"}"#, SendReport {}.into()),
        (
            r#"{"command":"connections","query":{"listening":true,"process":null,"remote":null}}"#,
            ListSockets {
                query: crate::control::sockets::SocketFilter {
                    listening: true,
                    ..Default::default()
                },
            }
            .into(),
        ),
        (
            r#"{"command":"order","order":true,"reason":"a","expires_seconds":null}"#,
            GiveOrder {
                order: json!(true),
                reason: Some("a".to_owned()),
                expires_seconds: None,
            }
            .into(),
        ),
        (
            r#"{"command":"release","everything":false,"reason":null}"#,
            ReleaseOrders {
                everything: false,
                reason: None,
            }
            .into(),
        ),
    ] {
        let incoming = read(line);
        assert_eq!(
            (incoming.form, incoming.request),
            (LineForm::Unnumbered, Ok(request))
        );
    }
    let answer = answer_line(LineForm::Unnumbered, &Ok::<_, String>(json!(null))).unwrap();
    assert_eq!(answer, "{\"ok\":null}\n");
    let refused = answer_line(LineForm::Unnumbered, &Err::<(), _>("no".to_owned())).unwrap();
    assert_eq!(refused, "{\"error\":\"no\"}\n");
}

#[test]
fn a_request_says_its_protocol_and_is_read_as_it_was_meant() {
    let request = Request::from(SendReport {});
    let line = request_line(&request).unwrap();
    assert_eq!(
        line,
        "{\"protocol\":1,\"command\":\"report\",\"question\":\"send\"}\n"
    );
    let incoming = read(&line);
    assert_eq!(
        (incoming.form, incoming.request),
        (LineForm::Numbered, Ok(request))
    );
}

#[test]
fn a_request_of_another_protocol_is_refused_whatever_it_asks() {
    for (number, line) in [
        ("2", r#"{"protocol":2,"command":"teleport","to":"moon"}"#),
        ("\"x\"", r#"{"protocol":"x"}"#),
        ("null", r#"{"protocol":null,"command":"status"}"#),
    ] {
        let incoming = read(line);
        assert_eq!(incoming.form, LineForm::Numbered);
        let problem = incoming.request.unwrap_err();
        assert!(
            problem.contains("speaks protocol 1")
                && problem.contains(&format!("the request protocol {number}")),
            "{problem}"
        );
    }
}

#[test]
fn only_orders_may_be_long() {
    let long = "x".repeat(5_000);
    let order = json!({"command": "plan", "order": long}).to_string() + "\n";
    assert!(read(&order).request.is_ok());
    let reason = json!({"command": "quarantine", "reason": long}).to_string() + "\n";
    assert_eq!(refusal(&reason), "the request is longer than 4096 bytes");
    let cut = &order[..usize::try_from(MAX_REQUEST).unwrap()];
    let problem = read_request(cut, MAX_REQUEST).request.unwrap_err();
    assert_eq!(problem, "the request is longer than 4096 bytes");
}

#[test]
fn an_answer_is_read_back() {
    for answer in [Some("text".to_owned()), None] {
        let line = answer_line(LineForm::Numbered, &Ok(answer.clone())).unwrap();
        assert!(line.starts_with("{\"protocol\":1,\"ok\":"), "{line}");
        assert_eq!(read_answer::<Option<String>>(&line).unwrap(), answer);
    }
    let line = answer_line(LineForm::Numbered, &Err::<(), _>("no".to_owned())).unwrap();
    assert!(matches!(read_answer::<()>(&line), Err(AnswerFault::Refused(problem)) if problem == "no"));
    let shape = answer_line(LineForm::Numbered, &Ok(7)).unwrap();
    assert!(matches!(
        read_answer::<String>(&shape),
        Err(AnswerFault::Unreadable(_))
    ));
}

#[test]
fn an_answer_that_nobody_reads_whole_says_so_instead() {
    let length = usize::try_from(MAX_ANSWER).unwrap();
    let around = answer_line(LineForm::Numbered, &Ok("")).unwrap().len();
    let longest = "x".repeat(length - around);
    let line = answer_line(LineForm::Numbered, &Ok(&longest)).unwrap();
    assert_eq!(
        (line.len(), read_answer::<String>(&line).unwrap()),
        (length, longest.clone())
    );
    let line = answer_line(LineForm::Numbered, &Ok(longest + "x")).unwrap();
    assert!(matches!(
        read_answer::<String>(&line),
        Err(AnswerFault::Refused(problem)) if problem == "the answer is longer than 16777216 bytes"
    ));
}

#[test]
fn an_answer_of_another_protocol_is_named_and_not_read() {
    for (theirs, line) in [
        ("protocol 2", "{\"protocol\":2,\"ok\":{\"new\":1}}"),
        (
            "protocol 2",
            "{\"protocol\":2,\"error\":\"this agent speaks protocol 2\"}",
        ),
        ("an early protocol without a number", "{\"ok\":\"text\"}"),
    ] {
        let fault = read_answer::<String>(line).unwrap_err();
        assert!(matches!(fault, AnswerFault::OtherProtocol { .. }), "{fault}");
        let text = fault.to_string();
        assert!(
            text.contains(theirs) && text.contains("this program speaks protocol 1"),
            "{text}"
        );
    }
}
