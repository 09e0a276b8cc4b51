//! One file for each thing that the agent does. A behaviour is a sentence that is true or not.

mod accounts_for_every_record;
mod delivers_to_sinks;
mod follows_people;
mod goes_on_after_a_restart;
mod knows_maintenance;
mod knows_what_runs_already;
mod names_who_is_attached;
mod runs_from_its_image;
mod says_what_is_wrong_and_ends;
mod sees_cloud_agents;
mod sees_every_exec;
mod sees_ssh_logins;
mod watches_containers;
mod watches_files;
mod watches_other_kernels;
mod watches_whole_nodes;

/// Something that the agent does.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// The sentence.
    pub name: &'static str,
    /// Why it cannot be shown on this machine, if it cannot.
    pub unavailable: fn() -> Option<String>,
    /// Panics where it is not true.
    pub run: fn(),
}

/// Those that are shown here, one after the other: they share one kernel.
pub fn here() -> Vec<Behaviour> {
    let all = [
        sees_every_exec::BEHAVIOURS,
        sees_ssh_logins::BEHAVIOURS,
        sees_cloud_agents::BEHAVIOURS,
        follows_people::BEHAVIOURS,
        knows_what_runs_already::BEHAVIOURS,
        names_who_is_attached::BEHAVIOURS,
        knows_maintenance::BEHAVIOURS,
        goes_on_after_a_restart::BEHAVIOURS,
        watches_containers::BEHAVIOURS,
        watches_files::BEHAVIOURS,
        delivers_to_sinks::BEHAVIOURS,
        runs_from_its_image::BEHAVIOURS,
        accounts_for_every_record::BEHAVIOURS,
        watches_other_kernels::BEHAVIOURS,
        says_what_is_wrong_and_ends::BEHAVIOURS,
    ];
    all.concat()
}

/// Those that are shown on nodes of their own.
pub fn on_nodes() -> Vec<Behaviour> {
    watches_whole_nodes::BEHAVIOURS.to_vec()
}

/// Why the kernel side cannot be used here, if it cannot.
fn no_kernel() -> Option<String> {
    postern::privileges::check(false).err().map(|error| error.to_string())
}

/// Why no real sshd can be watched here, if none can.
fn no_sshd() -> Option<String> {
    no_kernel().or_else(|| crate::harness::sshd::Sshd::unavailable().map(Into::into))
}
