//! What is watched: paths by the numbers that `inotify(7)` gives them.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, WatchFlags};
use rustix::io::Errno;

/// How far down a watch reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The file, or the directory and what is directly in it.
    One,
    /// All directories below as well.
    Tree,
}

/// What is watched.
#[derive(Default)]
pub struct Watches {
    paths: HashMap<i32, (PathBuf, Depth)>,
}

/// What was found in new directories: paths, and whether they are directories.
pub type Found = Vec<(PathBuf, bool)>;

impl Watches {
    /// The path with this number, and how far its watch reaches.
    pub fn get(&self, wd: i32) -> Option<(PathBuf, Depth)> {
        self.paths.get(&wd).cloned()
    }

    /// All paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.values().map(|(path, _)| path.as_path())
    }

    /// Watches `path`; for a tree also the directories in it, and tells what is in them.
    pub fn add(&mut self, inotify: &OwnedFd, path: &Path, depth: Depth) -> Result<Found, Errno> {
        let mut found = Found::new();
        self.add_one(inotify, path, depth)?;
        if depth == Depth::Tree {
            self.add_below(inotify, path, &mut found)?;
        }
        Ok(found)
    }

    fn add_one(&mut self, inotify: &OwnedFd, path: &Path, depth: Depth) -> Result<(), Errno> {
        let mut flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE;
        if depth == Depth::Tree {
            // A link could lead out of the tree, or round in it.
            flags |= WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        }
        let wd = inotify::add_watch(inotify, path, flags)?;
        self.paths.insert(wd, (path.to_owned(), depth));
        Ok(())
    }

    fn add_below(&mut self, inotify: &OwnedFd, top: &Path, found: &mut Found) -> Result<(), Errno> {
        let mut directories = vec![top.to_owned()];
        while let Some(directory) = directories.pop() {
            // Directories may go while we look, and some we may not read.
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_directory {
                    match self.add_one(inotify, &entry.path(), Depth::Tree) {
                        Ok(()) => directories.push(entry.path()),
                        // Too many watches: half a tree is worse than none.
                        Err(error @ (Errno::NOSPC | Errno::NOMEM)) => return Err(error),
                        Err(_) => {}
                    }
                }
                found.push((entry.path(), is_directory));
            }
        }
        Ok(())
    }

    /// Watches `path` no longer, and nothing below it if it was a tree.
    pub fn remove(&mut self, inotify: &OwnedFd, path: &Path) -> Result<(), Errno> {
        let known = self.paths.values().find(|(known, _)| known == path).map(|(_, depth)| *depth);
        match known.ok_or(Errno::NOENT)? {
            Depth::Tree => self.remove_tree(inotify, path),
            Depth::One => self.remove_if(inotify, |known| known == path),
        }
        Ok(())
    }

    /// Watches neither `top` nor anything below it.
    pub fn remove_tree(&mut self, inotify: &OwnedFd, top: &Path) {
        self.remove_if(inotify, |path| path.starts_with(top));
    }

    fn remove_if(&mut self, inotify: &OwnedFd, matches: impl Fn(&Path) -> bool) {
        self.paths.retain(|wd, (path, _)| {
            let gone = matches(path);
            if gone {
                // Refused if the file is gone, and the watch with it.
                let _ = inotify::remove_watch(inotify, *wd);
            }
            !gone
        });
    }

    /// The system has dropped this watch.
    pub fn forget(&mut self, wd: i32) {
        self.paths.remove(&wd);
    }
}
