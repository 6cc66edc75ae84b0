//! What the directive reads, and which names it takes.

use std::time::Duration;

use super::super::parse_block;
use super::choice::Policy;
use super::*;
use crate::data::upstream::HttpsMethod;

fn uses(block: &str) -> Vec<Options> {
    parse_block::<Forward>(block).expect(block).uses
}

fn one(block: &str) -> Options {
    uses(block).into_iter().next().expect(block)
}

fn fault(block: &str) -> String {
    parse_block::<Forward>(block).err().expect(block)
}

#[test]
fn defaults() {
    let options = one("forward . 127.0.0.1");
    assert_eq!((options.from.to_string().as_str(), options.targets.len()), (".", 1));
    assert_eq!((options.expire, options.max_age), (Duration::from_secs(10), Duration::ZERO));
    assert_eq!((options.read_timeout, options.max_idle), (Duration::from_secs(2), 0));
    assert_eq!((options.max_fails, options.attempts, options.max_concurrent), (2, None, 0));
    assert_eq!((options.policy, options.method), (Policy::Random, HttpsMethod::Post));
    assert_eq!(options.probing.interval, Duration::from_millis(500));
    assert!(options.probing.recursion && options.probing.domain == NameBuf::root());
    assert!(!options.force_tcp && !options.prefer_udp && !options.failfast);
    assert!(options.next == Rcodes::default() && options.failover == options.next);
}

#[test]
fn every_option() {
    let options = one("forward Example.org 127.0.0.1 tls://9.9.9.9 {
            except a.example.org b.example.org
            except 10.0.0.0/8
            force_tcp
            prefer_udp
            expire 20s
            max_age 30s
            max_idle_conns 4
            read_timeout 300ms
            max_fails 0
            max_connect_attempts 3
            doh_method GET
            tls cert.pem key.pem ca.pem
            tls_servername dns.example
            policy round_robin
            health_check 1s no_rec domain Probe.example
            max_concurrent 1000
            next NXDOMAIN refused
            next_on_nodata
            failover servfail NOTIMPL
            failfast_all_unhealthy_upstreams
            source_address 127.0.0.9
            resolver 127.0.0.1 [::1]:5353
            hedge 10%
        }");
    assert_eq!(options.from.to_string(), "example.org.");
    let except: Vec<String> = options.except.iter().map(ToString::to_string).collect();
    assert_eq!(except, ["a.example.org.", "b.example.org.", "10.in-addr.arpa."]);
    assert!(options.force_tcp && options.prefer_udp && options.failfast && options.next_on_nodata);
    assert_eq!((options.expire, options.max_age).0 * 3, options.max_age * 2);
    assert_eq!((options.max_idle, options.max_fails, options.attempts), (4, 0, Some(3)));
    assert_eq!(options.read_timeout, Duration::from_millis(300));
    assert_eq!((options.method, options.policy), (HttpsMethod::Get, Policy::RoundRobin));
    let (chain, key) = options.tls.client.expect("a certificate");
    assert_eq!((chain.to_str(), key.to_str()), (Some("cert.pem"), Some("key.pem")));
    assert_eq!(options.tls.roots.as_deref(), Some(std::path::Path::new("ca.pem")));
    assert_eq!(options.server_name.as_deref(), Some("dns.example"));
    assert_eq!(options.probing.domain.to_string(), "probe.example.");
    assert!(!options.probing.recursion && options.probing.interval == Duration::from_secs(1));
    assert!(options.next.has(rcode::NXDOMAIN) && options.next.has(rcode::REFUSED));
    assert!(options.failover.has(rcode::SERVFAIL) && options.failover.has(rcode::NOTIMP));
    assert!(!options.next.has(rcode::SERVFAIL) && !options.next.has(3_000));
    assert_eq!(options.source, "127.0.0.9".parse().ok());
    assert_eq!(options.resolvers.len(), 2);
    assert_eq!((options.hedge, options.max_concurrent), (10, 1000));
}

#[test]
fn faults_in_coredns_words() {
    let many = "127.0.0.1 ".repeat(16);
    for (words, fault_words) in [
        ("forward", "Wrong argument count or unexpected line ending after 'forward'"),
        ("forward .", "Wrong argument count or unexpected line ending after '.'"),
        ("forward a..b 127.0.0.1", "unable to normalize 'a..b'"),
        (&format!("forward . {many}"), "more than 15 TOs configured: 16"),
        ("forward . quic://127.0.0.1", "'quic' is not supported as a destination protocol"),
        ("forward . https://127.0.0.1/x", "paths are not allowed in HTTPS upstream addresses"),
    ] {
        assert!(fault(words).contains(fault_words), "{words}: {}", fault(words));
    }
    for (option, words) in [
        ("nothing", "unknown property 'nothing'"),
        ("read_timeuot 1s", "(did you mean \"read_timeout\"?)"),
        ("except", "Wrong argument count"),
        ("force_tcp x", "Wrong argument count or unexpected line ending after 'x'"),
        ("expire -5s", "expire can't be negative: -5s"),
        ("expire 5", "time: missing unit in duration \"5\""),
        ("max_age 5s", "max_age (5s) must not be less than expire (10s)"),
        ("max_age -1s", "max_age can't be negative: -1s"),
        ("read_timeout 0s", "read_timeout must be positive: 0s"),
        ("read_timeout -1s", "read_timeout must be positive: -1s"),
        ("health_check -1s", "health_check can't be negative: -1000000000"),
        ("health_check 1s x", "health_check: unknown option x"),
        ("health_check 1s domain a..b", "health_check: invalid domain name a..b"),
        ("health_check 1s domain", "Wrong argument count"),
        ("max_fails -1", "parsing \"-1\": invalid syntax"),
        ("max_connect_attempts x", "parsing \"x\": invalid syntax"),
        ("max_idle_conns -1", "max_idle_conns can't be negative: -1"),
        ("max_concurrent -4", "max_concurrent can't be negative: -4"),
        ("doh_method PUT", "doh_method must be either POST or GET"),
        ("policy nonsense", "unknown policy 'nonsense'"),
        ("policy sequentail", "(did you mean \"sequential\"?)"),
        ("next NXDOMAIN NOPE", "NOPE is not a valid rcode"),
        ("next RCODE12", "RCODE12 is not a valid rcode"),
        ("failover NOERROR", "NoError cannot be used in failover"),
        ("source_address here", "invalid IP address: here"),
        ("resolver here", "resolver must be an IP address or IP:port: \"here\""),
        ("tls a b c d", "Wrong argument count or unexpected line ending after 'd'"),
        ("hedge 0%", "is not a share from 1% to 100%"),
        ("hedge much", "is not a share from 1% to 100%"),
    ] {
        let fault = fault(&format!("forward . 127.0.0.1 {{\n{option}\n}}"));
        assert!(fault.contains(words), "{option}: {fault}");
    }
}

#[test]
fn names_are_taken_by_from_and_except() {
    let block = "forward example.org 127.0.0.1 {\nexcept example.org a.example.org\n}";
    let set = Arc::new(Published::new(set::tests::set_of(1)));
    let this = Use::new(one(block), set);
    let takes = |name: &str| this.takes(NameBuf::parse(name).expect(name).as_name());
    assert!(takes("example.org."), "FROM itself is never excepted, as in CoreDNS");
    assert!(!takes("b.example.org.") && !takes("x.a.example.org.") && !takes("example.net."));
}

#[test]
fn attempts_are_bounded() {
    let set = || Arc::new(Published::new(set::tests::set_of(1)));
    let most = |option: &str, upstreams| {
        let block = format!("forward . 127.0.0.1 {{\n{option}\n}}");
        Use::new(one(&block), set()).attempts_max(upstreams)
    };
    assert_eq!((most("force_tcp", 1), most("force_tcp", 3)), (2, 6));
    assert_eq!((most("force_tcp", 64), most("max_connect_attempts 1", 9)), (32, 1));
    assert_eq!(most("max_connect_attempts 0", 1), 32);
}

#[test]
fn hedges_are_a_share_of_the_queries() {
    let mut here = Here { set: Published::new(set::tests::set_of(1)).reader(), hedges: 0 };
    let sent = (0..1_000).filter(|_| {
        let may = here.may_hedge(5);
        here.hedges -= if may { 100 } else { 0 };
        may
    });
    assert_eq!(sent.count(), 50);
    assert!((0..10_000).filter(|_| here.may_hedge(50)).count() > 9_000);
    assert_eq!(here.hedges, 100 * FORWARD_HEDGES_MAX, "a burst is bounded");
}
