#!/bin/bash
# A Slurm of one node on loopback, without systemd or a database, for the test `slurm`; as root, with Debian's packages slurm-wlm and munge.
#   slurm-local.sh start|stop|start-node|kill-node DIR; the commands of Slurm need SLURM_CONF=DIR/slurm.conf
set -euo pipefail
what=$1
dir=$(realpath -m "$2")
export SLURM_CONF="$dir/slurm.conf"
case "$what" in
stop)
    for file in d.pid ctld.pid run/munged.pid; do
        if [ -s "$dir/$file" ]; then kill "$(cat "$dir/$file")" || true; fi
    done
    ;;
kill-node)
    kill -KILL "$(cat "$dir/d.pid")"
    ;;
start-node)
    slurmd -f "$SLURM_CONF"
    ;;
start)
    mkdir -p "$dir"/{state,spool,run}
    head -c 1024 /dev/urandom >"$dir/munge.key"
    chmod 600 "$dir/munge.key"
    munged --force --key-file="$dir/munge.key" --socket="$dir/run/munge.sock" --pid-file="$dir/run/munged.pid" \
        --log-file="$dir/munged.log" --seed-file="$dir/munge.seed"
    cat >"$SLURM_CONF" <<EOF
ClusterName=local
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.sock
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/ctld.pid
SlurmdPidFile=$dir/d.pid
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
SlurmctldLogFile=$dir/ctld.log
SlurmdLogFile=$dir/d.log
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
    slurmctld -f "$SLURM_CONF"
    slurmd -f "$SLURM_CONF"
    ;;
esac
