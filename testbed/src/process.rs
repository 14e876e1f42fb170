//! Child processes that never outlive the test: in a clean environment, in a folder of their own, with a log.

mod tree;
mod watcher;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Failure;
use crate::folder::Folder;
pub use tree::{peak_resident_bytes, resident_bytes};
use watcher::Watcher;

/// A server that is not ready by then will not be: on a busy machine they take one second.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A clean stop may have to write everything down first.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// How long a process that is asked to end at once may take to tidy up, before it is killed.
const TIDY_WITHIN: Duration = Duration::from_secs(3);

/// Another process's state can only be looked at again and again. A look costs microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How much of a log a failure shows.
const LOG_TAIL: usize = 4096;

const LOG: &str = "log";

/// Makes a program the leader of a session of its own, in its own place, so that the process id stays. In the session of the test
/// a frozen program would get SIGHUP from the kernel when the test dies, before anybody can tidy up.
const OWN_SESSION: &str = "setsid";

/// A program and how to run it.
///
/// ```no_run
/// # fn main() -> Result<(), hallpass_testbed::Failure> {
/// use hallpass_testbed::Program;
///
/// let mut service = Program::new("/usr/bin/my-service").arg("--port=0").ready_line("listening on").start()?;
/// let address = service.ready_line().and_then(|line| line.rsplit(' ').next()).map(str::to_owned);
/// service.kill9()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Program {
    name: String,
    binary: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    ready: Option<String>,
    stops_by: Signal,
    ends_by: Signal,
}

impl Program {
    /// The program in the file `binary`.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let binary = binary.into();
        let name = binary.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let (args, env) = (Vec::new(), Vec::new());
        Self { name, binary, args, env, ready: None, stops_by: Signal::TERM, ends_by: Signal::KILL }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// A variable of its environment. It inherits nothing but `PATH`.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// It is ready when it has written a line that contains `text`, to its output or its error output.
    #[must_use]
    pub fn ready_line(mut self, text: impl Into<String>) -> Self {
        self.ready = Some(text.into());
        self
    }

    /// The signal for a clean stop; SIGTERM otherwise.
    pub(crate) fn stops_by(mut self, signal: Signal) -> Self {
        self.stops_by = signal;
        self
    }

    /// The signal that ends it at once while it still tidies up what the kernel would not; SIGKILL otherwise.
    pub(crate) fn ends_by(mut self, signal: Signal) -> Self {
        self.ends_by = signal;
        self
    }

    /// Starts it in a new temporary folder, and waits for its ready line where it has one.
    ///
    /// # Errors
    /// `System`, when it cannot be started; `Process`, when it ends or the line does not come within 30 s.
    pub fn start(self) -> Result<Process, Failure> {
        self.start_in(Folder::new()?)
    }

    /// The same in a folder that is there already, with files the program needs.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_in(self, folder: Folder) -> Result<Process, Failure> {
        let watcher = Watcher::start(folder.path(), self.ends_by)?;
        let mut process =
            Process { program: self, child: None, watcher, log_begins: 0, ready_line: None, folder };
        process.launch()?;
        Ok(process)
    }
}

/// A running program. Dropping it ends it, and everything it started, and removes its folder; so does the death of the test's
/// own process, by whatever signal.
///
/// It is the leader of a session of its own: Ctrl-C at a terminal reaches the test, not the program.
#[derive(Debug)]
pub struct Process {
    program: Program,
    child: Option<Child>,
    // Before the folder: it must be told that all is over before the folder goes.
    watcher: Watcher,
    log_begins: u64,
    ready_line: Option<String>,
    folder: Folder,
}

impl Process {
    /// Its process id; `None` after it was stopped or killed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its folder, which is also its working directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All that it wrote since its latest start.
    #[must_use]
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(self.folder().join(LOG)).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_begins))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("(the log cannot be read: {error})"),
        }
    }

    /// The line that said it is ready.
    #[must_use]
    pub fn ready_line(&self) -> Option<&str> {
        self.ready_line.as_deref()
    }

    /// Its resident memory in bytes now, without that of processes it started.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        self.pid().and_then(resident_bytes)
    }

    /// Kills it and every process it started by SIGKILL, all at once, and waits until none is left.
    ///
    /// # Errors
    /// `Process`, when one of them does not go.
    pub fn kill9(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let pids = tree::kill(child.id());
        let reaped = child.wait().map_err(Failure::system("waiting for a killed process"));
        self.watcher.release();
        reaped?;
        if wait_for(TIDY_WITHIN, || pids.iter().all(|pid| tree::is_gone(*pid))) {
            return Ok(());
        }
        Err(self.failure("a process it started does not go"))
    }

    /// Stops it and every process it started by SIGSTOP. Its connections stay open and nothing answers.
    ///
    /// # Errors
    /// `Process`, when it has ended or does not stop.
    pub fn freeze(&mut self) -> Result<(), Failure> {
        let pid = self.pid().ok_or_else(|| self.failure("there is nothing to freeze"))?;
        // A process that was just about to be started by one that is not stopped yet is found by the next look.
        if wait_for(TIDY_WITHIN, || tree::stop(pid)) { Ok(()) } else { Err(self.failure("it does not stop")) }
    }

    /// Lets it go on after `freeze`.
    ///
    /// # Errors
    /// `Process`, when it has ended.
    pub fn thaw(&mut self) -> Result<(), Failure> {
        let pid = self.pid().ok_or_else(|| self.failure("there is nothing to thaw"))?;
        tree::go_on(pid);
        Ok(())
    }

    /// Asks it to stop cleanly by SIGTERM and returns at once.
    ///
    /// # Errors
    /// `System`, when the signal cannot be sent.
    pub fn terminate(&mut self) -> Result<(), Failure> {
        let Some(child) = &self.child else { return Ok(()) };
        tree::signal(child.id(), self.program.stops_by).map_err(Failure::system("asking a process to stop"))
    }

    /// Waits for it to end by itself, for `within` at most. `None`: it is still there, or was waited for before.
    ///
    /// # Errors
    /// `System`, when the system does not tell.
    pub fn wait(&mut self, within: Duration) -> Result<Option<ExitStatus>, Failure> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let mut ended = Ok(None);
        wait_for(within, || {
            ended = child.try_wait();
            !matches!(ended, Ok(None))
        });
        let ended = ended.map_err(Failure::system("waiting for a process"))?;
        if ended.is_some() {
            self.child = None;
            self.watcher.release();
        }
        Ok(ended)
    }

    /// Stops it cleanly and waits until it has ended.
    ///
    /// # Errors
    /// `Process`, when it has not ended after 30 s.
    pub fn stop(&mut self) -> Result<(), Failure> {
        let Some(pid) = self.pid() else { return Ok(()) };
        tree::go_on(pid);
        self.terminate()?;
        self.wait(STOP_WITHIN)?.map(drop).ok_or_else(|| self.failure("it does not stop"))
    }

    /// Starts it again in the same folder with the same arguments; stops it cleanly first if it runs.
    ///
    /// # Errors
    /// As `stop` and `Program::start`.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.stop()?;
        self.launch()
    }

    /// Looks again and again until `ready` says so.
    pub(crate) fn until(&mut self, ready: impl Fn() -> bool) -> Result<(), Failure> {
        let mut ended = false;
        let is_ready = wait_for(READY_WITHIN, || {
            ended = !self.is_running();
            ended || ready()
        });
        match (ended, is_ready) {
            (true, _) => Err(self.failure("it ended instead of becoming ready")),
            (false, true) => Ok(()),
            (false, false) => Err(self.failure("it did not become ready")),
        }
    }

    pub(crate) fn place(&self) -> &Folder {
        &self.folder
    }

    fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn launch(&mut self) -> Result<(), Failure> {
        let path = self.folder().join(LOG);
        let open = || {
            let log = fs::OpenOptions::new().create(true).append(true).open(&path)?;
            Ok::<_, io::Error>((log.metadata()?.len(), log.try_clone()?, log))
        };
        let (begins, log, errors) = open().map_err(Failure::system("opening a log"))?;
        self.log_begins = begins;

        if !self.program.binary.is_file() {
            let doing = format!("starting {}", self.program.binary.display());
            return Err(Failure::system(doing)("there is no such file"));
        }
        let mut command = Command::new(OWN_SESSION);
        scrub(&mut command);
        command
            .arg(&self.program.binary)
            .args(&self.program.args)
            .env("HOME", self.folder.path())
            .envs(self.program.env.iter().map(|(key, value)| (key, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        self.folder.account().run(&mut command);
        let child = command.spawn().map_err(Failure::system(format!("starting {}", self.program.name)))?;
        self.watcher.watch(child.id());
        self.child = Some(child);

        self.ready_line = None;
        if let Some(text) = self.program.ready.clone() {
            let waited = self.until(|| line_with(&path, begins, &text).is_some());
            self.ready_line = line_with(&path, begins, &text);
            // One that said so and then ended was ready; whoever started it will notice the rest.
            if self.ready_line.is_none() {
                waited?;
            }
        }
        Ok(())
    }

    fn failure(&self, reason: &str) -> Failure {
        let log = self.log();
        let begins = log.len().saturating_sub(LOG_TAIL);
        let tail = (begins..).find_map(|at| log.get(at..)).unwrap_or_default();
        Failure::Process { name: self.program.name.clone(), reason: reason.to_owned(), log: tail.to_owned() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.program.ends_by != Signal::KILL
            && let Some(pid) = self.pid()
        {
            tree::go_on(pid);
            let asked = tree::signal(pid, self.program.ends_by);
            if asked.is_ok() && matches!(self.wait(TIDY_WITHIN), Ok(Some(_))) {
                return;
            }
        }
        // There is nobody to tell if even this fails; the watcher would have no better means.
        let _ = self.kill9();
    }
}

/// Nothing of the tester's environment decides how a program behaves.
pub(crate) fn scrub(command: &mut Command) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
}

fn line_with(log: &Path, begins: u64, text: &str) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let mut written = String::new();
    file.seek(SeekFrom::Start(begins)).and_then(|_| file.read_to_string(&mut written)).ok()?;
    // Only whole lines: the end of one may not be written yet.
    let whole = written.rsplit_once('\n')?.0;
    whole.lines().find(|line| line.contains(text)).map(str::to_owned)
}

fn wait_for(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
}
