//! Running a command in a container, or attaching to what runs, for a user.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::remote::{Inbound, Outbound, Outcome, Remote, Wanted};
use crate::launch::{
    attach::{self, Decoder, Kind},
    sys, terminal,
};

/// Read at a time.
const CHUNK: usize = 32 * 1024;
/// How long output may come after the command's end: somebody it started may still have its output open.
const LINGER: Duration = Duration::from_secs(1);

/// Runs a command of the launcher for a user. A user who goes away ends it.
pub async fn run(command: std::process::Command, wanted: Wanted, remote: Remote) {
    let Remote { inbound, outbound } = remote;
    let outcome = match start(command, wanted).await {
        Ok(running) => running.until_end(inbound, &outbound).await,
        Err(error) => Outcome::Failed(format!("cannot run the command: {error}")),
    };
    let _ = outbound.send(Outbound::Done(outcome)).await;
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

struct Running {
    child: Child,
    stdin: Option<Writer>,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    terminal: Option<File>,
}

async fn start(command: std::process::Command, wanted: Wanted) -> io::Result<Running> {
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    if wanted.tty {
        return start_on_terminal(command).await;
    }
    let pipe = |wanted| {
        if wanted {
            Stdio::piped()
        } else {
            Stdio::null()
        }
    };
    command
        .stdin(pipe(wanted.stdin))
        .stdout(pipe(wanted.stdout))
        .stderr(pipe(wanted.stderr));
    let mut child = command.spawn()?;
    Ok(Running {
        stdin: child.stdin.take().map(|s| Box::new(s) as Writer),
        stdout: child.stdout.take().map(|s| Box::new(s) as Reader),
        stderr: child.stderr.take().map(|s| Box::new(s) as Reader),
        child,
        terminal: None,
    })
}

/// The launcher makes the terminal inside the container and passes it here.
async fn start_on_terminal(mut command: Command) -> io::Result<Running> {
    let (ours, theirs) = UnixStream::pair()?;
    command
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // Its end of the socket must not stay open here, or a failure would never be noticed.
    drop(command);
    let received = tokio::task::spawn_blocking(move || terminal::receive(ours.as_fd())).await?;
    let Ok(master) = received else {
        let mut why = String::new();
        if let Some(stderr) = &mut child.stderr {
            stderr.read_to_string(&mut why).await?;
        }
        return Err(io::Error::other(why.trim().to_owned()));
    };
    let master = File::from(master);
    let copy = || master.try_clone();
    Ok(Running {
        stdin: Some(Box::new(tokio::fs::File::from_std(copy()?))),
        stdout: Some(Box::new(tokio::fs::File::from_std(copy()?))),
        stderr: None,
        terminal: Some(master),
        child,
    })
}

impl Running {
    async fn until_end(
        mut self,
        inbound: mpsc::Receiver<Inbound>,
        outbound: &mpsc::Sender<Outbound>,
    ) -> Outcome {
        let mut output = JoinSet::new();
        let sink = |make: fn(Bytes) -> Outbound| (outbound.clone(), make);
        if let Some(stdout) = self.stdout.take() {
            output.spawn(pass_on(stdout, sink(Outbound::Stdout)));
        }
        if let Some(stderr) = self.stderr.take() {
            output.spawn(pass_on(stderr, sink(Outbound::Stderr)));
        }
        let input = take_in(inbound, self.stdin.take(), self.terminal.take());
        tokio::pin!(input);
        let mut gone = false;
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status,
                () = &mut input, if !gone => {
                    gone = true;
                    let _ = self.child.start_kill();
                }
            }
        };
        let _ = timeout(LINGER, async {
            while output.join_next().await.is_some() {}
        })
        .await;
        match status {
            Ok(status) => Outcome::Exit(status.code().unwrap_or(137)),
            Err(error) => Outcome::Failed(format!("cannot wait for the command: {error}")),
        }
    }
}

/// Until there is no more, or nobody wants it.
async fn pass_on(mut from: Reader, (to, make): (mpsc::Sender<Outbound>, fn(Bytes) -> Outbound)) {
    let mut buffer = vec![0; CHUNK];
    // A terminal that no program has open any more says EIO.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        if to.send(make(bytes)).await.is_err() {
            return;
        }
    }
}

/// Until the user has gone.
async fn take_in(
    mut inbound: mpsc::Receiver<Inbound>,
    mut stdin: Option<Writer>,
    terminal: Option<File>,
) {
    while let Some(next) = inbound.recv().await {
        match next {
            Inbound::Stdin(bytes) => {
                if let Some(to) = &mut stdin {
                    let written = async {
                        to.write_all(&bytes).await?;
                        to.flush().await
                    };
                    if written.await.is_err() {
                        stdin = None;
                    }
                }
            }
            Inbound::End if terminal.is_none() => stdin = None,
            Inbound::End => {}
            Inbound::Resize(columns, rows) => {
                if let Some(terminal) = &terminal {
                    let _ = sys::set_window(terminal, columns, rows);
                }
            }
        }
    }
}

/// Joins a user to a container's own streams until it ends or the user goes away.
pub async fn attached(socket: UnixStream, wanted: Wanted, remote: Remote) {
    let Remote {
        mut inbound,
        outbound,
    } = remote;
    let outcome = match join(socket, wanted, &mut inbound, &outbound).await {
        Ok(()) => Outcome::Exit(0),
        Err(error) => Outcome::Failed(format!("cannot attach to the container: {error}")),
    };
    let _ = outbound.send(Outbound::Done(outcome)).await;
}

async fn join(
    socket: UnixStream,
    wanted: Wanted,
    inbound: &mut mpsc::Receiver<Inbound>,
    outbound: &mpsc::Sender<Outbound>,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let (mut read, mut write) = tokio::net::UnixStream::from_std(socket)?.into_split();
    let mut frames = Decoder::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        tokio::select! {
            count = read.read(&mut buffer) => {
                match count? {
                    0 => return Ok(()),
                    count => frames.push(buffer.get(..count).unwrap_or_default()),
                }
                while let Some((kind, bytes)) = frames.take().map_err(io::Error::other)? {
                    let next = match kind {
                        Kind::Stdout if wanted.stdout => Outbound::Stdout(bytes.into()),
                        Kind::Stderr if wanted.stderr => Outbound::Stderr(bytes.into()),
                        _ => continue,
                    };
                    if outbound.send(next).await.is_err() {
                        return Ok(());
                    }
                }
            }
            next = inbound.recv() => {
                let mut out = Vec::new();
                match next {
                    None => return Ok(()),
                    Some(Inbound::Stdin(bytes)) if wanted.stdin => attach::encode(Kind::Stdin, &bytes, &mut out),
                    Some(Inbound::End) if wanted.stdin => attach::encode(Kind::Stdin, &[], &mut out),
                    Some(Inbound::Resize(columns, rows)) => {
                        attach::encode(Kind::Resize, &attach::window(columns, rows), &mut out);
                    }
                    Some(_) => continue,
                }
                write.write_all(&out).await?;
            }
        }
    }
}
