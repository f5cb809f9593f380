//! The input in large blocks, read on a thread of its own: reading goes on while records are sent, and a
//! terminal that nobody types at blocks nothing else. Who types at one is told how it ends, and asked for each line.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::streams::{notice, write_notice};
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that were read and not taken yet.
const BLOCKS_AHEAD: usize = 2;

#[derive(Debug)]
pub enum Block {
    Bytes(Vec<u8>),
    /// A record does not go on in the next file.
    EndOfFile,
}

/// Standard input among files.
const STDIN: &str = "-";

/// Blocks of all files in turn, or of standard input.
#[derive(Debug)]
pub struct Blocks {
    blocks: mpsc::Receiver<io::Result<Block>>,
    total: Option<u64>,
    is_typed: bool,
}

struct Source {
    reader: Box<dyn Read + Send>,
    /// Somebody types it at a terminal.
    is_typed: bool,
}

impl Blocks {
    /// Opens everything first: a file that is missing is told before anything is sent.
    pub async fn read(mut paths: Vec<PathBuf>) -> Result<Blocks, Failure> {
        let mut sources: Vec<Source> = Vec::new();
        let mut total = Some(0);
        if paths.is_empty() {
            paths.push(STDIN.into());
        }
        for path in &paths {
            if path == Path::new(STDIN) {
                // Not std's handle: its lock and second buffer would cost a copy.
                let stdin = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned();
                let stdin = stdin.with_context(|| "cannot read standard input".to_owned())?;
                let (stdin, is_typed) = (File::from(stdin), io::stdin().is_terminal());
                let size = stdin.metadata().ok().filter(|m| m.is_file()).map(|m| m.len());
                total = total.and_then(|total| Some(total + size?));
                sources.push(Source { reader: Box::new(stdin), is_typed });
                continue;
            }
            let what = || format!("cannot read {}", path.display());
            let file = File::open(path).with_context(what)?;
            let metadata = file.metadata().with_context(what)?;
            if metadata.is_dir() {
                let cause = io::Error::from(io::ErrorKind::IsADirectory);
                return Err(Failure::new(Exit::Failed, what(), cause));
            }
            total = total.filter(|_| metadata.is_file()).map(|total| total + metadata.len());
            sources.push(Source { reader: Box::new(file), is_typed: false });
        }
        let is_typed = sources.iter().any(|source| source.is_typed);
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
        std::thread::spawn(move || {
            for source in sources {
                if !read_source(source, &sender) {
                    return;
                }
            }
        });
        Ok(Blocks { blocks, total, is_typed })
    }

    /// Bytes that will come, if that is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Some of it is typed at a terminal.
    pub fn is_typed(&self) -> bool {
        self.is_typed
    }

    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<io::Result<Block>> {
        self.blocks.recv().await
    }
}

/// False: nobody wants more.
fn read_source(mut source: Source, blocks: &mpsc::Sender<io::Result<Block>>) -> bool {
    let asks = source.is_typed && io::stderr().is_terminal();
    if asks {
        notice!("each line is a record; Ctrl-D ends");
    }
    loop {
        if asks {
            write_notice(format_args!("> "));
        }
        let mut buffer = vec![0; BLOCK_BYTES];
        let block = match source.reader.read(&mut buffer) {
            Ok(0) if asks => {
                // Ctrl-D leaves the cursor behind the prompt.
                notice!("");
                return blocks.blocking_send(Ok(Block::EndOfFile)).is_ok();
            }
            Ok(0) => return blocks.blocking_send(Ok(Block::EndOfFile)).is_ok(),
            Ok(len) => {
                buffer.truncate(len);
                Ok(Block::Bytes(buffer))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = block.is_err();
        if blocks.blocking_send(block).is_err() || failed {
            return false;
        }
    }
}
