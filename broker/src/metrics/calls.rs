//! What is counted of each call of gRPC. Labels are the methods of the contract; whatever else is asked for is `unknown`.

use crate::methods::METHODS;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tonic::Code;

const CODES: usize = 17;

/// The counters of all methods of one node, of all of its listeners.
pub struct CallMetrics {
    methods: HashMap<&'static str, Arc<MethodMetrics>>,
    unknown: Arc<MethodMetrics>,
}

impl CallMetrics {
    pub fn new(node: &str) -> Arc<Self> {
        let of = |service: &str, method: &str, is_unary: bool| {
            Arc::new(MethodMetrics {
                labels: [node, service, method].map(str::to_owned),
                is_unary,
                under_way: OnceLock::new(),
                seconds: OnceLock::new(),
                by_code: Default::default(),
            })
        };
        let methods = METHODS.iter().map(|(path, info)| {
            let is_unary = !info.streams_requests && !info.streams_answers;
            (path.as_str(), of(&info.service, &info.name, is_unary))
        });
        Arc::new(Self { methods: methods.collect(), unknown: of("unknown", "unknown", true) })
    }

    /// A call has come in.
    pub fn begin(&self, path: &str) -> CallUnderWay {
        let method = Arc::clone(self.methods.get(path).unwrap_or(&self.unknown));
        method.under_way().increment(1.0);
        CallUnderWay { method, begun: Instant::now(), ended: false }
    }
}

/// Series of methods that nobody calls are not made.
struct MethodMetrics {
    labels: [String; 3],
    /// How long a stream lasts says nothing.
    is_unary: bool,
    under_way: OnceLock<Gauge>,
    seconds: OnceLock<Histogram>,
    by_code: [OnceLock<Counter>; CODES],
}

impl MethodMetrics {
    fn labels(&self) -> (String, String, String) {
        let [node, service, method] = self.labels.clone();
        (node, service, method)
    }

    fn under_way(&self) -> &Gauge {
        self.under_way.get_or_init(|| {
            let (node, service, method) = self.labels();
            gauge!(
                "troupe_calls_under_way",
                "node" => node, "service" => service, "method" => method
            )
        })
    }

    fn ended(&self, code: Code, begun: Instant) {
        let counted = self.by_code.get(code as usize);
        if let Some(counted) = counted {
            let made = counted.get_or_init(|| {
                let (node, service, method) = self.labels();
                counter!(
                    "troupe_calls_total",
                    "node" => node, "service" => service, "method" => method, "code" => name(code)
                )
            });
            made.increment(1);
        }
        self.under_way().decrement(1.0);
        if self.is_unary {
            let seconds = self.seconds.get_or_init(|| {
                let (node, service, method) = self.labels();
                histogram!(
                    "troupe_call_seconds",
                    "node" => node, "service" => service, "method" => method
                )
            });
            seconds.record(begun.elapsed());
        }
    }
}

/// Counted once, when it ends; dropped before that, it was given up by whoever asked.
pub struct CallUnderWay {
    method: Arc<MethodMetrics>,
    begun: Instant,
    ended: bool,
}

impl CallUnderWay {
    pub fn end(&mut self, code: Code) {
        if !std::mem::replace(&mut self.ended, true) {
            self.method.ended(code, self.begun);
        }
    }
}

impl Drop for CallUnderWay {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// As gRPC's specification spells it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
