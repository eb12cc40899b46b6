# SPDX-License-Identifier: Apache-2.0
"""A job as Zuul's executor runs it: its folders, its settings of Ansible, its real plugins.

After ``zuul/executor/server.py`` (JobDir, writeAnsibleConfig, runAnsible) and
``zuul/lib/ansible.py`` (copyAnsibleFiles) of Zuul 14. There the callbacks send a job's log to the
executor, which writes it; here they write it themselves.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.roles import harness
from tests.roles.harness import Desk, Run

#: Zuul numbers its plugins by releases of the package ansible.
PLUGINS = {"2.16": "9", "2.18": "11"}
LOGGING = """\
import sys
from zuul.ansible.logconfig import JobLoggingConfig
text, json, target = sys.argv[1:]
JobLoggingConfig(
    test_log_output_text_file=text, test_log_output_json_file=json
).writeJson(target)
"""


class Job:
    """One build: playbooks in processes of their own, which share what ``zuul_return`` returns."""

    def __init__(self, desk: Desk, clone: Path, version: str, host: str = "node") -> None:
        self.desk = desk
        self.host = host
        self.root = desk.folder / "build"
        self.work = self.root / "work"
        self.logs = self.work / "logs"
        self.results = self.work / "results.json"
        self.output = ""
        #: What a parent job has returned as secret data: extra variables, which no fact changes.
        self.inherited: dict[str, Any] = {}
        self.temporary = self.work / "tmp"
        for folder in (self.logs, self.temporary, self.root / ".ansible"):
            folder.mkdir(parents=True)
        self.results.touch()
        desk.roles = clone / "roles"
        self.write_settings(self.copy_plugins(PLUGINS[version]))
        self.write_facts()

    def copy_plugins(self, number: str) -> Path:
        """Lay the plugins out as a package ``zuul`` that has nothing else."""
        package = self.root / "ansible" / "zuul"
        source = harness.zuul_plugins() / "zuul" / "ansible" / number
        shutil.copytree(source, package / "ansible", symlinks=False)
        for folder in (package, package / "ansible"):
            (folder / "__init__.py").touch()
        self.keep_logs_here(package / "ansible" / "library" / "command.py")
        return package / "ansible"

    def keep_logs_here(self, module: Path) -> None:
        """Have commands on this machine log into the build's folder: they leave their logs in /tmp.

        A node with files of its own takes them along when it ends.
        """
        text, here = module.read_text(), str(self.temporary)
        assert text.count("'/tmp/console-") == 1
        folder = f"({here!r} if os.path.isdir({here!r}) else '/tmp') + "
        module.write_text(text.replace("'/tmp/console-", f"{folder}'/console-"))

    def write_settings(self, plugins: Path) -> None:
        """Write ansible.cfg and set the environment of the processes."""
        lines = [
            "[defaults]",
            f"local_tmp = {self.temporary}",
            "gathering = smart",
            "fact_caching = jsonfile",
            f"fact_caching_connection = {self.root}/fact-cache",
            f"library = {plugins}/library",
            f"module_utils = {plugins}/library/module_utils",
            f"callback_plugins = {plugins}/callback",
            "stdout_callback = zuul_stream",
            f"filter_plugins = {plugins}/filter",
            f"action_plugins = {plugins}/action",
            f"roles_path = {self.desk.roles}",
            "display_args_to_stdout = True",
            "internal_poll_interval = 0.01",
        ]
        (self.root / "ansible.cfg").write_text("\n".join(lines) + "\n")
        self.desk.settings = {
            "ANSIBLE_CONFIG": str(self.root / "ansible.cfg"),
            "PYTHONPATH": str(plugins.parents[1]),
            "TMP": str(self.temporary),
            "ZUUL_JOBDIR": str(self.root),
            "ZUUL_JOB_LOG_CONFIG": str(self.root / "logging.json"),
            "ZUUL_JOB_FAILURE_OUTPUT": "[]",
            "ZUUL_OUTPUT_MAX_BYTES": "1073741824",
            "ZUUL_ANSIBLE_SPLIT_STREAMS": "False",
        }
        texts = [self.logs / "job-output.txt", self.logs / "job-output.json"]
        python = self.desk.environment / "bin" / "python"
        written = self.desk.command(python, "-c", LOGGING, *texts, self.root / "logging.json")
        assert written.returncode == 0, written.stdout

    def write_facts(self) -> None:
        """Write what Zuul has gathered before the first playbook: here another home than root's."""
        facts = {"ansible_user_dir": str(self.desk.home), "_ansible_facts_gathered": True}
        cache = self.root / "fact-cache"
        cache.mkdir()
        (cache / self.host).write_text(json.dumps(facts))

    def inventory(self, variables: dict[str, Any]) -> Path:
        """Write the inventory, which also brings the variables of Zuul and of the job."""
        executor = {
            "hostname": "executor",
            "src_root": str(self.work / "src"),
            "log_root": str(self.logs),
            "work_root": str(self.work),
            "result_data_file": str(self.results),
            "inventory_file": str(self.root / "inventory.yaml"),
        }
        zuul = {"build": "0" * 32, "job": "build-image", "executor": executor}
        zuul |= variables.pop("zuul", {})
        host = {"ansible_connection": "local", "ansible_host": "127.0.0.1"}
        every = {"hosts": {self.host: host}, "vars": {**variables, "zuul": zuul}}
        path = self.root / "inventory.yaml"
        path.write_text(json.dumps({"all": every}))
        return path

    def run(self, *tasks: dict[str, Any], **variables: Any) -> Run:
        """Run a playbook of these tasks, and read the facts that they leave."""
        keep = {
            "ansible.builtin.copy": {
                "content": "{{ buildset_registry | default(none) | to_json }}",
                "dest": str(self.desk.folder / "facts.json"),
                "mode": "0600",
            },
            "no_log": True,
        }
        playbook = self.desk.write("job.yml", [{"hosts": "all", "tasks": [*tasks, keep]}])
        return self.play(playbook, **variables)

    def play(self, playbook: Path, **variables: Any) -> Run:
        """Run a playbook, with the job's variables, at the verbosity -vvv."""
        inventory = self.inventory({**self.desk.variables, **variables})
        given, self.desk.variables = self.desk.variables, {}
        try:
            options = ["-i", str(inventory), "-vvv"]
            run = self.desk.playbook(playbook, *options, **self.inherited)
        finally:
            self.desk.variables = given
        told = [path.read_text() for path in sorted(self.logs.glob("job-output.*"))]
        self.output += run.output + "".join(told)
        return Run(run.code, run.output + "".join(told), run.facts)

    @property
    def returned(self) -> dict[str, Any]:
        """What the job has returned to Zuul."""
        return dict(json.loads(self.results.read_text()))
