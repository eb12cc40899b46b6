# SPDX-License-Identifier: Apache-2.0
"""Several hosts on one machine, each with its own address, file system, processes and sshd.

A lab is a tree of namespaces whose top is one process, the keeper: when that ends, by `down`, with
its owner or by a crash, the kernel ends every process, network and mount of the lab. Nothing of the
machine itself is changed; what is kept on disk is one folder. It needs root.

    python -m tests.lab up registry client     # then: ssh -F build/lab/ssh_config client
    python -m tests.lab down
"""
