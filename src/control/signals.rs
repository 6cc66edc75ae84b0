//! The signals that the process takes, and what each means.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// End at once.
    Quit,
    /// Read the Corefile again.
    Reload,
    /// Start a successor.
    Succeed,
    /// Stop.
    Terminate,
    /// Stop; the second time at once.
    Interrupt,
}

impl Word {
    /// CoreDNS's line about a signal to stop.
    pub fn tell(&self) {
        match self {
            Self::Quit => tracing::info!("SIGQUIT: Quitting process immediately"),
            Self::Terminate => tracing::info!("SIGTERM: Shutting down servers then terminating"),
            Self::Interrupt => tracing::info!("SIGINT: Shutting down"),
            Self::Reload | Self::Succeed => {}
        }
    }

    /// The signal's number.
    pub fn number(&self) -> i32 {
        let kind = match self {
            Self::Quit => SignalKind::quit(),
            Self::Reload => SignalKind::user_defined1(),
            Self::Succeed => SignalKind::user_defined2(),
            Self::Terminate => SignalKind::terminate(),
            Self::Interrupt => SignalKind::interrupt(),
        };
        kind.as_raw_value()
    }
}

/// The signals that are taken, from when this is made: before anything is started, so that none
/// that comes during the start does what the kernel would do by itself.
pub struct Signals {
    quit: Signal,
    reload: Signal,
    succeed: Signal,
    terminate: Signal,
    interrupt: Signal,
    _ignored: Signal,
}

impl Signals {
    /// Takes the signals; inside a runtime.
    ///
    /// # Errors
    /// The kernel refuses a handler or the descriptors that it needs.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            quit: signal(SignalKind::quit())?,
            reload: signal(SignalKind::user_defined1())?,
            succeed: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            // Taken, and never read: SIGHUP does nothing.
            _ignored: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Word {
        tokio::select! {
            _ = self.quit.recv() => Word::Quit,
            _ = self.reload.recv() => Word::Reload,
            _ = self.succeed.recv() => Word::Succeed,
            _ = self.terminate.recv() => Word::Terminate,
            _ = self.interrupt.recv() => Word::Interrupt,
        }
    }

    /// Waits for a signal to stop, of whatever kind, and tells of it.
    pub async fn stop(&mut self) {
        loop {
            match self.next().await {
                Word::Reload => tracing::info!("SIGUSR1: not yet, the server is starting"),
                Word::Succeed => tracing::info!("SIGUSR2: not yet, the server is starting"),
                word => return word.tell(),
            }
        }
    }

    /// Waits for a second SIGINT, and tells of it.
    pub async fn second_interrupt(&mut self) {
        self.interrupt.recv().await;
        tracing::info!("SIGINT: Force quit");
    }
}
