//! The one ordered list of directives and links.
//!
//! Directives stand in CoreDNS's plugin.cfg order, which is the order of the chain, whatever the
//! order in the Corefile. It is relevant to security: `rewrite` and `autopath` stand before `acl`,
//! `acl` before `cache`. One that is not built yet is known by name.
//!
//! The macro makes from the list: the enum of links (one variant for each behaviour), of their
//! frames and of their locals, with dispatch as a jump table, and the table of directives.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::{Compiled, CorefileError, Cx, Facts, Lines, SearchPath, SetupError, Site, Step};
use super::{Directive, Plugin, Transferer};
use crate::limits::FRAME_BYTES_MAX;
use crate::wire::{NameBuf, Question};

macro_rules! registry {
    (
        directives { $($name:ident $(= $module:ident :: $directive:ident)?;)* }
        links { $($(#[$gate:meta])* $variant:ident($link:ty) $link_name:literal;)* }
    ) => {
        /// Names of all directives that CoreDNS knows, in the order of the chain.
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];

        /// A directive as its block's `parse` left it.
        pub enum Parsed {
            $($(#[doc = stringify!($name)] $directive(super::$module::$directive),)?)*
        }

        impl Parsed {
            /// Whether the directive is built in.
            pub fn is_built(name: &str) -> bool {
                $($(if name == <super::$module::$directive as Directive>::NAME {
                    return true;
                })?)*
                false
            }

            /// Reads the lines of directive `name`, which is built in.
            pub fn parse(name: &str, lines: &Lines<'_>) -> Option<Result<Self, CorefileError>> {
                $($(if name == <super::$module::$directive as Directive>::NAME {
                    let parsed = <super::$module::$directive as Directive>::parse(lines);
                    return Some(parsed.map(Self::$directive));
                })?)*
                let _ = lines;
                None
            }

            /// See [`Directive::facts`].
            pub fn facts(&self, facts: &mut Facts) {
                match self { $($(Self::$directive(one) => one.facts(facts),)?)* }
            }

            /// See [`Directive::warnings`].
            pub fn warnings(&self) -> Vec<String> {
                match self { $($(Self::$directive(one) => one.warnings(),)?)* }
            }

            /// See [`Directive::compile`].
            pub fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
                match self { $($(Self::$directive(one) => one.compile(site),)?)* }
            }

            /// See [`Directive::CARRIED`].
            pub fn is_carried(&self) -> bool {
                match self {
                    $($(Self::$directive(_) =>
                        <super::$module::$directive as Directive>::CARRIED,)?)*
                }
            }
        }

        impl Parsed {
            /// See [`Directive::RESTS_ON_BELOW`].
            pub fn rests_on_below(&self) -> bool {
                match self {
                    $($(Self::$directive(_) =>
                        <super::$module::$directive as Directive>::RESTS_ON_BELOW,)?)*
                }
            }
        }

        /// The file of each directive that is built in: its head is the manual.
        pub const SOURCES: &[(&str, &str)] = &[
            $($((stringify!($name), source!($module)),)?)*
        ];

        /// A link of a chain.
        #[derive(Clone)]
        pub enum Link { $($(#[$gate])* #[doc = $link_name] $variant(Arc<$link>),)* }

        /// What a link remembers of a query.
        #[derive(Clone, Copy)]
        pub enum Frame { $($(#[$gate])* #[doc = $link_name] $variant(<$link as Plugin>::Frame),)* }

        /// What a link has of its own on a worker.
        pub enum Local { $($(#[$gate])* #[doc = $link_name] $variant(<$link as Plugin>::Local),)* }

        $($(#[$gate])*
        impl From<$link> for Link {
            fn from(link: $link) -> Self {
                Self::$variant(Arc::new(link))
            }
        }
        $(#[$gate])*
        impl From<Arc<$link>> for Link {
            fn from(link: Arc<$link>) -> Self {
                Self::$variant(link)
            }
        }
        $(#[$gate])*
        const _: () = assert!(size_of::<<$link as Plugin>::Frame>() <= FRAME_BYTES_MAX);)*

        impl Link {
            /// Name of the directive that it stands for in metrics and logs.
            pub fn name(&self) -> &'static str {
                match self { $($(#[$gate])*
                    Self::$variant(one) => one.name().unwrap_or($link_name),)* }
            }

            /// Whether `other` is the very same link.
            pub fn is_same(&self, other: &Self) -> bool {
                match (self, other) {
                    $($(#[$gate])*
                        (Self::$variant(one), Self::$variant(other)) => Arc::ptr_eq(one, other),)*
                    _ => false,
                }
            }

            /// The plugin, for whoever knows its type.
            pub fn any(&self) -> Arc<dyn Any + Send + Sync> {
                match self { $($(#[$gate])* Self::$variant(one) => one.clone(),)* }
            }

            /// See [`Plugin::transferer`].
            pub fn transferer(&self) -> Option<Arc<dyn Transferer>> {
                match self { $($(#[$gate])* Self::$variant(one) => one.transferer(),)* }
            }

            /// See [`Plugin::search_path`].
            pub fn search_path(&self) -> Option<SearchPath> {
                match self { $($(#[$gate])* Self::$variant(one) => one.search_path(),)* }
            }

            /// See [`Plugin::local`].
            pub fn local(&self, core: u16) -> Local {
                match self { $($(#[$gate])*
                    Self::$variant(one) => Local::$variant(one.local(core)),)* }
            }

            /// See [`Plugin::refresh`].
            pub fn refresh(&self, local: &mut Local) {
                match (self, local) {
                    $($(#[$gate])*
                        (Self::$variant(one), Local::$variant(local)) => one.refresh(local),)*
                    _ => {}
                }
            }

            /// See [`Plugin::HINTS`].
            pub fn has_hint(&self) -> bool {
                match self { $($(#[$gate])* Self::$variant(_) => <$link as Plugin>::HINTS,)* }
            }

            /// See [`Plugin::JUDGES`].
            pub fn judges(&self) -> bool {
                match self { $($(#[$gate])* Self::$variant(_) => <$link as Plugin>::JUDGES,)* }
            }

            /// See [`Plugin::admits`].
            pub fn admits(&self, local: &Local, cx: &Cx<'_>) -> bool {
                match (self, local) {
                    $($(#[$gate])* (Self::$variant(one), Local::$variant(local)) =>
                        one.admits(local, cx),)*
                    _ => false,
                }
            }

            /// See [`Plugin::hint`].
            #[inline]
            pub fn hint(&self, local: &Local, question: Question<'_>) -> u64 {
                match (self, local) {
                    $($(#[$gate])*
                        (Self::$variant(one), Local::$variant(local)) =>
                            one.hint(local, question),)*
                    _ => 0,
                }
            }

            /// See [`Plugin::hint_next`].
            #[inline]
            pub fn hint_next(&self, local: &Local, question: Question<'_>, place: u64) {
                match (self, local) {
                    $($(#[$gate])* (Self::$variant(one), Local::$variant(local)) =>
                        one.hint_next(local, question, place),)*
                    _ => {}
                }
            }

            /// See [`Plugin::memory_zones`].
            pub fn memory_zones(&self) -> &[NameBuf] {
                match self { $($(#[$gate])* Self::$variant(one) => one.memory_zones(),)* }
            }

            /// See [`Plugin::meta_key`].
            pub fn meta_key(&self, label: &str) -> Option<u16> {
                match self { $($(#[$gate])* Self::$variant(one) => one.meta_key(label),)* }
            }

            /// See [`Plugin::meta`].
            pub fn meta(
                &self,
                local: &Local,
                cx: &Cx<'_>,
                key: u16,
                out: &mut dyn fmt::Write,
            ) -> bool {
                match (self, local) {
                    $($(#[$gate])* (Self::$variant(one), Local::$variant(local)) =>
                        one.meta(local, cx, key, out),)*
                    _ => false,
                }
            }

            /// See [`Plugin::serve`].
            #[inline]
            pub fn serve(&self, local: &mut Local, cx: &mut Cx<'_>) -> Step<Frame> {
                match (self, local) {
                    $($(#[$gate])* (Self::$variant(one), Local::$variant(local)) =>
                        one.serve(local, cx).wrap(Frame::$variant),)*
                    _ => mismatch(cx),
                }
            }

            /// See [`Plugin::resume`].
            #[inline]
            pub fn resume(&self, local: &mut Local, cx: &mut Cx<'_>, frame: Frame) -> Step<Frame> {
                match (self, local, frame) {
                    $($(#[$gate])*
                        (Self::$variant(one), Local::$variant(local), Frame::$variant(frame)) =>
                        one.resume(local, cx, frame).wrap(Frame::$variant),)*
                    _ => mismatch(cx),
                }
            }

            /// See [`Plugin::detached`].
            pub fn detached(&self, local: &mut Local, cx: &mut Cx<'_>, note: u64) -> Step<Frame> {
                match (self, local) {
                    $($(#[$gate])* (Self::$variant(one), Local::$variant(local)) =>
                        one.detached(local, cx, note).wrap(Frame::$variant),)*
                    _ => mismatch(cx),
                }
            }
        }
    };
}

/// A link was given another's local or frame: a bug of ours, and SERVFAIL for the query.
#[cold]
fn mismatch(cx: &mut Cx<'_>) -> Step<Frame> {
    cx.fail(crate::wire::rcode::SERVFAIL, format_args!("link and frame do not match"));
    Step::Up
}

impl<F> Step<F> {
    #[inline]
    fn wrap<G>(self, wrap: impl FnOnce(F) -> G) -> Step<G> {
        match self {
            Step::Next => Step::Next,
            Step::Up => Step::Up,
            Step::Watch(frame) => Step::Watch(wrap(frame)),
            Step::Ask(frame, entry) => Step::Ask(wrap(frame), entry),
            Step::Fetch(frame, fetch) => Step::Fetch(wrap(frame), fetch),
            Step::Send(frame) => Step::Send(wrap(frame)),
        }
    }
}

const _: () = assert!(size_of::<Link>() <= 16);

/// The text of a plugin's file.
macro_rules! source {
    ($module:ident) => {
        include_str!(concat!(stringify!($module), ".rs"))
    };
}

registry! {
    directives {
        root = root::Root;
        metadata = metadata::Metadata;
        geoip;
        cancel = cancel::Cancel;
        proxyproto;
        quic;
        grpc_server;
        https;
        https3;
        timeouts = timeouts::Timeouts;
        multisocket = multisocket::Multisocket;
        reload = reload::Reload;
        nsid = nsid::Nsid;
        bufsize = bufsize::Bufsize;
        bind = bind::Bind;
        debug = debug::Debug;
        trace = trace::Trace;
        ready = ready::Ready;
        health = health::Health;
        pprof;
        shed = shed::Shed;
        prometheus = prometheus::Prometheus;
        errors = errors::Errors;
        log = log::Log;
        dnstap = dnstap::Dnstap;
        local = local::Local;
        dns64 = dns64::Dns64;
        any = any::Any;
        chaos = chaos::Chaos;
        loadbalance = loadbalance::Loadbalance;
        tsig = tsig::Tsig;
        rewrite = rewrite::Rewrite;
        autopath = autopath::Autopath;
        acl = acl::Acl;
        cache = cache::Cache;
        header = header::Header;
        dnssec;
        tls = tls::Tls;
        minimal = minimal::Minimal;
        template = template::Template;
        transfer = transfer::Transfer;
        hosts = hosts::Hosts;
        route53;
        azure;
        clouddns;
        k8s_external = k8s_external::External;
        kubernetes = kubernetes::Kubernetes;
        file = file::File;
        auto = auto::Auto;
        secondary;
        etcd;
        loop = loop_::Loop;
        forward = forward::Forward;
        grpc;
        erratic = erratic::Erratic;
        whoami = whoami::Whoami;
        on = on::On;
        sign;
        view = view::View;
        nomad;
    }
    links {
        Counting(super::prometheus::Counting) "prometheus";
        Cancel(super::cancel::Cancel) "cancel";
        Trace(super::trace::Link) "trace";
        Nsid(super::nsid::Nsid) "nsid";
        Cache(super::cache::Link) "cache";
        Bufsize(super::bufsize::Bufsize) "bufsize";
        LocalNames(super::local::Link) "local";
        Dnstap(super::dnstap::Link) "dnstap";
        Dns64(super::dns64::Link) "dns64";
        Any(super::any::Any) "any";
        Chaos(super::chaos::Chaos) "chaos";
        Header(super::header::Header) "header";
        Minimal(super::minimal::Minimal) "minimal";
        Errors(super::errors::Link) "errors";
        Log(super::log::Link) "log";
        Templates(super::template::Templates) "template";
        Hosts(super::hosts::Link) "hosts";
        Authority(super::authority::Authority) "file";
        Cluster(super::kubernetes::Link) "kubernetes";
        Outside(super::k8s_external::Link) "k8s_external";
        Loadbalance(super::loadbalance::Link) "loadbalance";
        Signed(super::tsig::Link) "tsig";
        Rewrites(super::rewrite::Link) "rewrite";
        Acl(super::acl::Link) "acl";
        Autopath(super::autopath::Link) "autopath";
        Transfers(super::transfer::Link) "transfer";
        Loop(super::loop_::Link) "loop";
        Erratic(super::erratic::Link) "erratic";
        Forward(super::forward::Link) "forward";
        View(super::view::Link) "view";
        Gone(super::gone::Gone) "gone";
        Whoami(super::whoami::Whoami) "whoami";
        #[cfg(test)]
        Probe(crate::data::proofs::probe::Probe) "probe";
    }
}

#[cfg(test)]
mod tests {
    use super::NAMES;

    #[test]
    fn no_directive_stands_in_the_list_twice() {
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }
}
