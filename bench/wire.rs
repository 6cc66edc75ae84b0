//! What it costs to read a query, to write a reply, to compress names and to find a zone.
//!
//! The common answer of a cluster (one question, a block of records ready to copy, OPT) is
//! `parse` plus `reply/block`; the others are what takes another way.

use std::hint::black_box;

use corelane::wire::*;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const SERVICE: &str = "db-0.db.shop.svc.cluster.local.";

fn name(text: &str) -> NameBuf {
    NameBuf::parse(text).expect("a name")
}

fn query(text: &str, opt: bool) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(opt)];
    bytes.extend(name(text).as_name().as_bytes());
    bytes.extend([0, 1, 0, 1]);
    if opt {
        bytes.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    bytes
}

fn reply() -> Reply {
    Reply::new(vec![0; 4096].into_boxed_slice())
}

fn start(reply: &mut Reply, lower: &NameBuf) {
    let name = lower.as_name();
    let flags = Flags::default().with_qr(true).with_aa(true).with_rd(true);
    let question = Question { name, lower: name, rtype: rtype::A, rclass: rclass::IN };
    reply.start(0x1234, flags, question);
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (label, bytes) in [("plain", query(SERVICE, false)), ("opt", query(SERVICE, true))] {
        group.bench_function(label, |b| b.iter(|| parse_query(black_box(&bytes))));
    }
    group.bench_function("lower", |b| {
        let name = name(SERVICE);
        b.iter(|| NameBuf::lowered(black_box(name.as_name())));
    });
    group.finish();
}

fn replies(c: &mut Criterion) {
    let mut group = c.benchmark_group("reply");
    let service = name(SERVICE);
    let block = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 1, 0, 22];
    group.bench_function("block", |b| {
        let mut reply = reply();
        b.iter(|| {
            start(&mut reply, black_box(&service));
            reply.push_block(Section::Answer, black_box(&block), 1).expect("room");
            reply.push_opt(1232, 0, 0, false, &[]).expect("room");
            reply.len()
        });
    });
    group.bench_function("address", |b| {
        let mut reply = reply();
        b.iter(|| {
            start(&mut reply, black_box(&service));
            let (owner, address) = (service.as_name(), [10, 1, 0, 22].into());
            reply.push_address(Section::Answer, owner, address, 5).expect("room");
            reply.len()
        });
    });
    let (ns, mailbox, zone) =
        (name("ns.dns.cluster.local"), name("hostmaster.cluster.local"), name("cluster.local"));
    group.bench_function("nxdomain", |b| {
        let soa = Soa { mname: ns.as_name(), rname: mailbox.as_name(), numbers: [1, 2, 3, 4, 5] };
        let mut reply = reply();
        b.iter(|| {
            start(&mut reply, black_box(&service));
            reply.push_soa(Section::Authority, zone.as_name(), &soa, 5).expect("room");
            reply.len()
        });
    });
    group.finish();
}

fn compress(c: &mut Criterion) {
    let service = name("_pg._tcp.db.shop.svc.cluster.local.");
    let targets: Vec<NameBuf> =
        (0..8).map(|n| name(&format!("db-{n}.db.shop.svc.cluster.local."))).collect();
    c.bench_function("compress/srv_8", |b| {
        let mut reply = reply();
        b.iter(|| {
            start(&mut reply, black_box(&service));
            for target in &targets {
                let (owner, target) = (service.as_name(), target.as_name());
                reply.push_srv(Section::Answer, owner, [0, 100, 5432], target, 5).expect("room");
            }
            for target in &targets {
                let (owner, address) = (target.as_name(), [10, 1, 0, 22].into());
                reply.push_address(Section::Additional, owner, address, 5).expect("room");
            }
            reply.len()
        });
    });
}

fn edits(c: &mut Criterion) {
    let mut group = c.benchmark_group("edit");
    let service = name(SERVICE);
    let mut whole = reply();
    start(&mut whole, &service);
    for last in 0..20 {
        let address = [10, 1, 0, last].into();
        whole.push_address(Section::Answer, service.as_name(), address, 5).expect("room");
    }
    let bytes = whole.bytes().to_vec();
    let order: Vec<u16> = (0..20).rev().collect();
    let mut scratch = vec![0; 4096].into_boxed_slice();
    group.bench_function("validate_20", |b| b.iter(|| validate(black_box(&bytes))));
    group.bench_function("permute_20", |b| {
        b.iter(|| whole.permute(Section::Answer, &order, &mut scratch));
    });
    group.bench_function("patch_ttls_20", |b| b.iter(|| whole.patch_ttls(|_, ttl| ttl ^ 1)));
    group.bench_function("rebuild_20", |b| {
        let fresh = reply;
        b.iter_batched_ref(
            fresh,
            |reply| reply.rebuild(&bytes, None, |_| true),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn zones(c: &mut Criterion) {
    let mut group = c.benchmark_group("suffix");
    let asked = name(SERVICE);
    for count in [3, 1000] {
        let mut zones = vec![(name("cluster.local"), 0), (name("."), 1)];
        zones.extend((2..count).map(|n| (name(&format!("z{n}.example.org")), n)));
        let set = Suffixes::new(zones);
        group.bench_function(format!("{count}_zones"), |b| {
            b.iter(|| set.find(black_box(asked.as_name())).map(|(_, value)| *value));
        });
    }
    group.finish();
}

criterion_group!(benches, parse, replies, compress, edits, zones);
criterion_main!(benches);
