//! Wishes in every order, without a kernel.

use super::*;

fn now() -> Now {
    Now {
        wall: "2026-01-01T00:00:00Z".parse().unwrap(),
        uptime: std::time::Duration::from_secs(9),
    }
}

fn version(version: u64) -> Option<ShadowVersion> {
    Some(ShadowVersion {
        thing: "gw".into(),
        name: None,
        version,
    })
}

fn isolate() -> Wish {
    let order = Order::isolate(Authority::Shadow, "shadow", None, now().wall);
    Wish::Order(Box::new(order))
}

fn kept(desk: &OrderDesk) -> Option<u64> {
    let mut journal = Journal::default();
    desk.lend(&mut journal);
    journal.shadow.as_ref().as_ref().map(|kept| kept.version)
}

#[test]
fn what_may_be_old_closes_and_lets_nobody_go() {
    let mut desk = OrderDesk::default();
    assert!(desk.take_shadow(isolate(), version(3), false, now()));
    assert!(!desk.take_shadow(Wish::Release, version(4), false, now()));
    assert_eq!((desk.orders().len(), kept(&desk)), (1, Some(3)));
    assert!(
        desk.take_shadow(Wish::Release, version(4), true, now()),
        "control"
    );
    assert_eq!((desk.orders().len(), kept(&desk)), (0, Some(4)));
}

#[test]
fn what_may_be_old_does_not_touch_what_the_operator_ended() {
    let mut desk = OrderDesk::default();
    desk.take_shadow(isolate(), version(3), true, now());
    desk.override_all("mine".into(), now());
    assert!(!desk.take_shadow(Wish::Release, version(4), false, now()));
    assert!(!desk.take_shadow(isolate(), version(5), false, now()));
    assert!(desk.overridden.is_some() && desk.orders().is_empty());
    assert_eq!(kept(&desk), Some(3));
    // The cloud's own word ends the override: a message from before that must stay old.
    desk.take_shadow(Wish::Release, version(6), true, now());
    assert_eq!((desk.overridden.is_some(), kept(&desk)), (false, Some(6)));
}

fn operators() -> Wish {
    let order = Order::isolate(Authority::Operator, "operator", None, now().wall);
    Wish::Order(Box::new(order))
}

fn told(desk: &OrderDesk) -> Option<ReleaseWithoutNucleus> {
    let mut state = State::default();
    desk.show(&mut state);
    state.released_without_nucleus
}

#[test]
fn what_came_through_a_nucleus_ends_without_one_and_counts_again_when_it_is_said_again() {
    let mut desk = OrderDesk::default();
    assert!(
        !desk.release_without_nucleus("alone".into(), now()),
        "nothing ends"
    );
    assert_eq!(told(&desk), None);
    desk.take_shadow(isolate(), version(3), true, now());
    desk.take(Authority::Operator, operators(), now());
    assert!(desk.release_without_nucleus("alone".into(), now()));
    let who = |desk: &OrderDesk| -> Vec<_> { desk.orders().iter().map(|order| order.authority).collect() };
    assert_eq!(who(&desk), [Authority::Operator]);
    // It survives a restart: the cloud has not read it.
    let mut journal = Journal::default();
    desk.lend(&mut journal);
    let mut desk = OrderDesk::restore(&journal);
    assert_eq!(told(&desk).unwrap().orders, ["shadow shadow"]);
    // An empty shadow of the time meanwhile is no news, and nobody has read anything by it.
    desk.take_shadow(Wish::Release, version(3), true, now());
    assert!(told(&desk).is_some());

    assert!(
        desk.take_shadow(isolate(), version(3), true, now()),
        "the same wish"
    );
    assert_eq!(who(&desk), [Authority::Shadow, Authority::Operator]);
    assert_eq!(told(&desk).unwrap().why, "alone");
    desk.take_shadow(Wish::Release, version(4), true, now());
    assert_eq!((who(&desk), told(&desk)), (vec![Authority::Operator], None));
}

#[test]
fn what_the_operator_ended_stays_ended_without_a_nucleus_and_ends_the_telling() {
    let mut desk = OrderDesk::default();
    desk.take_shadow(isolate(), version(3), true, now());
    desk.override_all("mine".into(), now());
    assert!(!desk.release_without_nucleus("alone".into(), now()));
    assert!(!desk.take_shadow(isolate(), version(3), true, now()), "held back");
    let other = Order::isolate(Authority::Deployment, "inc-2", None, now().wall);
    desk.take(Authority::Deployment, Wish::Order(Box::new(other)), now());
    assert!(desk.release_without_nucleus("alone".into(), now()));
    assert!(
        !desk.take_shadow(isolate(), version(3), true, now()),
        "still held back"
    );
    desk.override_all("read".into(), now());
    assert_eq!(told(&desk), None);
}

#[test]
fn the_version_is_written_with_news_only_and_remembered_in_any_case() {
    let mut desk = OrderDesk::default();
    desk.take_shadow(isolate(), version(3), true, now());
    desk.take_shadow(isolate(), version(9), true, now());
    assert_eq!((kept(&desk), desk.shadow_heard()), (Some(3), version(9)));
    assert!(
        desk.take_shadow(Wish::Release, None, true, now()),
        "there is no shadow"
    );
    assert_eq!((kept(&desk), desk.shadow_heard()), (Some(9), version(9)));
    let mut journal = Journal::default();
    desk.lend(&mut journal);
    assert_eq!(OrderDesk::restore(&journal).shadow_heard(), version(9));
}

fn until(end: &str, id: &str) -> Wish {
    let mut order = Order::isolate(Authority::Shadow, id, None, now().wall);
    order.expires = Some(end.parse().unwrap());
    Wish::Order(Box::new(order))
}

fn at(wall: &str) -> Now {
    Now {
        wall: wall.parse().unwrap(),
        ..now()
    }
}

fn faults(desk: &OrderDesk) -> usize {
    let mut state = State::default();
    desk.show(&mut state);
    state
        .rejected
        .iter()
        .map(|rejection| rejection.faults.len())
        .sum()
}

const END: &str = "2026-01-01T01:00:00Z";
const AFTER: &str = "2026-01-01T01:00:01Z";

#[test]
fn an_order_that_has_ended_may_be_said_again_and_another_behind_its_end_is_refused() {
    let mut desk = OrderDesk::default();
    assert!(desk.take(Authority::Shadow, until(END, "a"), now()));
    desk.expire(at(AFTER));
    let mut journal = Journal::default();
    desk.lend(&mut journal);
    for mut desk in [OrderDesk::restore(&journal), desk] {
        assert!(!desk.take(Authority::Shadow, until(END, "a"), at(AFTER)));
        assert_eq!((desk.orders().len(), faults(&desk)), (0, 0), "what has ended");
        assert!(!desk.take(Authority::Shadow, until(END, "b"), at(AFTER)));
        assert_eq!((desk.orders().len(), faults(&desk)), (0, 2), "another one");
        desk.take_news();
        desk.take(Authority::Shadow, until(END, "b"), at(AFTER));
        assert_eq!(desk.take_news().len(), 0, "told once");
        assert!(!desk.take(Authority::Shadow, Wish::Release, at(AFTER)));
        assert_eq!(faults(&desk), 0);
        desk.take(Authority::Shadow, until(END, "a"), at(AFTER));
        assert_eq!(faults(&desk), 2, "it was taken back, so it is said anew");
    }
}

#[test]
fn an_order_whose_end_comes_while_it_is_said_again_ends() {
    let mut desk = OrderDesk::default();
    desk.take(Authority::Shadow, until(END, "a"), now());
    desk.take(Authority::Shadow, until(END, "a"), at(AFTER));
    assert_eq!((desk.orders().len(), faults(&desk)), (0, 0));
}

#[test]
fn an_end_that_has_passed_takes_nothing_back_and_what_was_ended_otherwise_may_be_said_after_it() {
    let mut desk = OrderDesk::default();
    desk.take(Authority::Shadow, isolate(), now());
    assert!(!desk.take(Authority::Shadow, until(END, "a"), at(AFTER)));
    assert_eq!((desk.orders().len(), faults(&desk)), (1, 2));
    // The operator's override, and then the order's own end.
    desk.take(Authority::Shadow, until(END, "a"), now());
    desk.override_all("mine".into(), now());
    for _ in 0..2 {
        desk.take(Authority::Shadow, until(END, "a"), at(AFTER));
        assert_eq!((desk.overridden.is_some(), faults(&desk)), (false, 0));
    }
    desk.take(Authority::Shadow, until(END, "c"), now());
    assert!(desk.release_without_nucleus("alone".into(), now()));
    desk.take(Authority::Shadow, until(END, "c"), at(AFTER));
    assert_eq!(faults(&desk), 0);
}
