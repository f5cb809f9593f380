//! The input in large blocks, read on a thread of its own: reading goes on while records are sent, and a
//! terminal that nobody types at blocks nothing else.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
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

/// Blocks of all files in turn, or of standard input.
#[derive(Debug)]
pub struct Blocks {
    blocks: mpsc::Receiver<io::Result<Block>>,
    total: Option<u64>,
}

impl Blocks {
    /// Opens everything first: a file that is missing is told before anything is sent.
    pub async fn read(paths: Vec<PathBuf>) -> Result<Blocks, Failure> {
        let mut sources: Vec<Box<dyn Read + Send>> = Vec::new();
        let mut total = Some(0);
        for path in &paths {
            let what = || format!("cannot read {}", path.display());
            let file = File::open(path).with_context(what)?;
            let metadata = file.metadata().with_context(what)?;
            if metadata.is_dir() {
                let cause = io::Error::from(io::ErrorKind::IsADirectory);
                return Err(Failure::new(Exit::Failed, what(), cause));
            }
            total = total.filter(|_| metadata.is_file()).map(|total| total + metadata.len());
            sources.push(Box::new(file));
        }
        if paths.is_empty() {
            // Not std's handle: its lock and second buffer would cost a copy.
            let stdin = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned();
            let stdin = File::from(stdin.with_context(|| "cannot read standard input".to_owned())?);
            total = stdin.metadata().ok().filter(|m| m.is_file()).map(|m| m.len());
            sources.push(Box::new(stdin));
        }
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
        std::thread::spawn(move || {
            for source in sources {
                if !read_source(source, &sender) {
                    return;
                }
            }
        });
        Ok(Blocks { blocks, total })
    }

    /// Bytes that will come, if that is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<io::Result<Block>> {
        self.blocks.recv().await
    }
}

/// False: nobody wants more.
fn read_source(mut source: Box<dyn Read + Send>, blocks: &mpsc::Sender<io::Result<Block>>) -> bool {
    loop {
        let mut buffer = vec![0; BLOCK_BYTES];
        let block = match source.read(&mut buffer) {
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
