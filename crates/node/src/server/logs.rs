//! Reading containers' logs.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Seek},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::query::Query;
use crate::{launch::log::put_aside_files, logs};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Sent at a time.
const CHUNK: usize = 16 * 1024;

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What comes later, too.
    pub follow: bool,
    /// Only so many lines before.
    pub tail: Option<usize>,
    /// Only what is not older.
    pub since: Option<Timestamp>,
    /// With the time before each line.
    pub timestamps: bool,
    /// Only so many bytes.
    pub limit: Option<u64>,
}

impl Wanted {
    /// By a request's parameters.
    ///
    /// # Errors
    /// When one is not what it should be.
    pub fn of(query: &Query, now: Timestamp) -> Result<Self, String> {
        let number = |key: &str| match query.first(key) {
            None => Ok(None),
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| format!("{key} {text:?} is not a number")),
        };
        let seconds = number("sinceSeconds")?;
        let back = seconds.and_then(|s| {
            now.checked_sub(SignedDuration::from_secs(i64::try_from(s).ok()?))
                .ok()
        });
        let since = match query.first("sinceTime") {
            Some(text) => Some(
                text.parse()
                    .map_err(|_| format!("sinceTime {text:?} is not a time"))?,
            ),
            None => back,
        };
        Ok(Self {
            follow: query.flag("follow"),
            tail: number("tailLines")?.and_then(|n| usize::try_from(n).ok()),
            since,
            timestamps: query.flag("timestamps"),
            limit: number("limitBytes")?,
        })
    }
}

/// Reads a log in a thread of its own. `running` tells whether more can come.
pub fn read(
    path: PathBuf,
    wanted: Wanted,
    running: impl Fn() -> bool + Send + 'static,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut out = Out {
            sender: sender.clone(),
            pending: Vec::new(),
            left: wanted.limit,
        };
        let outcome = copy(&path, &wanted, &running, &mut out);
        if let Err(error) = outcome.and_then(|()| out.flush())
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

/// Where lines go.
struct Out {
    sender: mpsc::Sender<io::Result<Bytes>>,
    pending: Vec<u8>,
    left: Option<u64>,
}

impl Out {
    fn write(&mut self, entry: &logs::Entry<'_>, wanted: &Wanted) -> io::Result<()> {
        if wanted.timestamps {
            self.bytes(format!("{} ", entry.time).as_bytes())?;
        }
        self.bytes(entry.text)?;
        if entry.full || wanted.timestamps {
            self.bytes(b"\n")?;
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes;
        if let Some(left) = &mut self.left {
            let room = usize::try_from(*left).unwrap_or(usize::MAX);
            bytes = bytes.get(..room).unwrap_or(bytes);
            *left -= bytes.len() as u64;
        }
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= CHUNK {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.pending).into();
        self.sender
            .blocking_send(Ok(bytes))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn full(&self) -> bool {
        self.left == Some(0)
    }
}

fn copy(path: &Path, wanted: &Wanted, running: &dyn Fn() -> bool, out: &mut Out) -> io::Result<()> {
    let mut files = put_aside_files(path).unwrap_or_default();
    files.push(path.to_owned());
    let mut last: VecDeque<Vec<u8>> = VecDeque::new();
    let mut position = None;
    for file in &files {
        let mut reader = match File::open(file) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        while let Some(line) = whole_line(&mut reader)? {
            if out.full() {
                return Ok(());
            }
            let Some(entry) = parse(&line, wanted) else {
                continue;
            };
            match wanted.tail {
                None => out.write(&entry, wanted)?,
                Some(0) => {}
                Some(lines) => {
                    last.push_back(line.clone());
                    while full_lines(&last) > lines {
                        last.pop_front();
                    }
                }
            }
        }
        position = Some(reader);
    }
    for line in &last {
        if let Some(entry) = parse(line, wanted) {
            out.write(&entry, wanted)?;
        }
    }
    out.flush()?;
    match position {
        Some(reader) if wanted.follow && !out.full() => follow(path, reader, wanted, running, out),
        _ => Ok(()),
    }
}

/// Parts of a line count as one.
fn full_lines(lines: &VecDeque<Vec<u8>>) -> usize {
    lines
        .iter()
        .filter(|line| logs::parse(line).is_some_and(|e| e.full))
        .count()
}

fn follow(
    path: &Path,
    mut reader: BufReader<File>,
    wanted: &Wanted,
    running: &dyn Fn() -> bool,
    out: &mut Out,
) -> io::Result<()> {
    loop {
        // Asked before reading: what was written until then is read below.
        let more = running();
        while let Some(line) = whole_line(&mut reader)? {
            if let Some(entry) = parse(&line, wanted) {
                out.write(&entry, wanted)?;
            }
            if out.full() {
                return out.flush();
            }
        }
        out.flush()?;
        if out.sender.is_closed() {
            return Ok(());
        }
        let current = std::fs::metadata(path).map(|m| m.ino()).ok();
        let put_aside =
            current.is_some() && current != reader.get_ref().metadata().map(|m| m.ino()).ok();
        if put_aside {
            reader = BufReader::new(File::open(path)?);
            continue;
        }
        if !more {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

/// A line without its end; `None` when there is no whole one: it is read again later.
fn whole_line(reader: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let count = reader.read_until(b'\n', &mut line)?;
    if line.pop() == Some(b'\n') {
        return Ok(Some(line));
    }
    let back = i64::try_from(count).unwrap_or(0);
    reader.seek_relative(-back)?;
    let _ = reader.stream_position()?;
    Ok(None)
}

fn parse<'a>(line: &'a [u8], wanted: &Wanted) -> Option<logs::Entry<'a>> {
    logs::parse(line).filter(|entry| wanted.since.is_none_or(|since| entry.time >= since))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        io::Write,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use super::*;

    fn wanted(query: &str) -> Wanted {
        let uri: http::Uri = format!("/x?{query}").parse().unwrap();
        Wanted::of(&Query::of(&uri), Timestamp::from_second(100).unwrap()).unwrap()
    }

    fn read_all(path: &Path, query: &str) -> String {
        let mut receiver = read(path.to_owned(), wanted(query), || false);
        let mut all = Vec::new();
        while let Some(bytes) = receiver.blocking_recv() {
            all.extend_from_slice(&bytes.unwrap());
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn what_is_wanted_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        fs::write(
            directory.path().join("0.log.20260101-000000"),
            "1970-01-01T00:00:10Z stdout F old\n",
        )
        .unwrap();
        fs::write(
            &path,
            "1970-01-01T00:01:00Z stdout P par\n1970-01-01T00:01:00Z stdout F t\n\
             1970-01-01T00:01:30Z stderr F last\n1970-01-01T00:01:31Z stdout F not yet",
        )
        .unwrap();
        let table = [
            ("", "old\npart\nlast\n"),
            ("tailLines=2", "part\nlast\n"),
            ("tailLines=1", "last\n"),
            ("tailLines=0", ""),
            ("sinceSeconds=20", "last\n"),
            ("sinceTime=1970-01-01T00:01:00Z", "part\nlast\n"),
            ("limitBytes=6", "old\npa"),
            ("timestamps=true&tailLines=1", "1970-01-01T00:01:30Z last\n"),
        ];
        for (query, expected) in table {
            assert_eq!(read_all(&path, query), expected, "{query}");
        }
        let uri: http::Uri = "/x?tailLines=many".parse().unwrap();
        assert!(Wanted::of(&Query::of(&uri), Timestamp::UNIX_EPOCH).is_err());
    }

    #[test]
    fn a_log_is_followed_through_its_rotation_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let line = |text: &str| format!("1970-01-01T00:00:00Z stdout F {text}\n");
        fs::write(&path, line("one")).unwrap();
        let running = Arc::new(AtomicBool::new(true));
        let told = running.clone();
        let mut receiver = read(path.clone(), wanted("follow=true"), move || {
            told.load(Ordering::SeqCst)
        });
        let mut next = || {
            receiver
                .blocking_recv()
                .map(|b| String::from_utf8(b.unwrap().to_vec()).unwrap())
        };
        assert_eq!(next().as_deref(), Some("one\n"));
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(line("two").as_bytes()).unwrap();
        assert_eq!(next().as_deref(), Some("two\n"));
        fs::rename(&path, directory.path().join("0.log.1")).unwrap();
        fs::write(&path, line("three")).unwrap();
        assert_eq!(next().as_deref(), Some("three\n"));
        running.store(false, Ordering::SeqCst);
        assert_eq!(next(), None);
    }
}
