//! `--shard`: which part of the pairs this process scores, said outright or by whoever started it.

use super::term::Usage;
use penjing::shard::Shard;

/// The shard of an argument: `0/4`, or `auto` for what the environment says.
///
/// # Errors
/// What is no shard, and an environment that says nothing.
pub fn parse(argument: &str) -> anyhow::Result<Shard> {
    if argument != "auto" {
        return Ok(argument.parse().map_err(penjing::Error::from)?);
    }
    from_environment(&|name| std::env::var(name).ok())?.ok_or_else(|| {
        let message = "--shard auto finds no number of this process".to_owned();
        let hint = "srun, job arrays, mpirun and torchrun set one (docs/clusters.md); otherwise write --shard 0/4";
        Usage { message, hint: hint.into() }.into()
    })
}

/// The place that launchers give this process among all. A launcher inside of a job array has a place for every one of the
/// array's jobs.
fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Option<Shard>> {
    let number = |name: &str| -> anyhow::Result<Option<usize>> {
        let Some(text) = variable(name) else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| {
            let message = format!("--shard auto cannot read {name}=`{text}`");
            Usage { message, hint: "write --shard 0/4".into() }.into()
        })
    };
    let of_two = |index: &str, count: &str| -> anyhow::Result<Option<Shard>> {
        Ok(match (number(index)?, number(count)?) {
            (Some(index), Some(count)) => Some(Shard::new(index, count).map_err(penjing::Error::from)?),
            _ => None,
        })
    };
    // The innermost first: torchrun and mpirun start under Slurm and leave its variables as they are.
    let launchers =
        [("RANK", "WORLD_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")];
    let mut task = None;
    for (index, count) in launchers {
        task = task.or(of_two(index, count)?);
    }
    let job = match (number("SLURM_ARRAY_TASK_ID")?, number("SLURM_ARRAY_TASK_COUNT")?) {
        (Some(id), Some(count)) => {
            let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
            let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
            Some(Shard::new(id.saturating_sub(first) / step, count).map_err(penjing::Error::from)?)
        }
        _ => None,
    };
    Ok(match (job, task) {
        (Some(job), Some(task)) => {
            Some(Shard { index: job.index * task.count + task.index, count: job.count.saturating_mul(task.count) })
        }
        (job, task) => job.or(task),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[(&str, &str)], expected: Option<&str>) {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let found = from_environment(&variable).unwrap();
        assert_eq!(found.map(|shard| shard.to_string()).as_deref(), expected, "{variables:?}");
    }

    #[test]
    fn launchers_say_which_part_is_whose() {
        check(&[], None);
        check(&[("RANK", "2")], None);
        check(&[("RANK", "2"), ("WORLD_SIZE", "8")], Some("2/8"));
        check(&[("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "4")], Some("3/4"));
        check(&[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2")], Some("1/2"));
        let array = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_MIN", "5"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
            ("SLURM_ARRAY_TASK_STEP", "1"),
        ];
        check(&array, Some("2/4"));
        // As in every job's script, where srun has not been called.
        check(&[&array[..], &[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1")]].concat(), Some("2/4"));
        check(&[&array[..], &[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2")]].concat(), Some("5/8"));
        let slurm = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "2")];
        check(&[&slurm[..], &[("RANK", "5"), ("WORLD_SIZE", "6")]].concat(), Some("5/6"));
    }

    #[test]
    fn an_environment_that_cannot_be_is_refused() {
        let with = |id: &'static str| {
            move |name: &str| match name {
                "RANK" => Some(id.to_owned()),
                "WORLD_SIZE" => Some("4".to_owned()),
                _ => None,
            }
        };
        for id in ["4", "-1", "first"] {
            assert!(from_environment(&with(id)).is_err(), "{id}");
        }
    }
}
