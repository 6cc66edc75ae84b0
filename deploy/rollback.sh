#!/usr/bin/env bash
# The way back to what the Deployment `coredns` was before: prints the commands, or runs them with -a.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: rollback.sh [-n REVISION] [-k KUBECONFIG] [-a]

    -n  the revision to go back to (the one before; `kubectl rollout history` names them)
    -k  kubeconfig of the cluster
    -a  do it, and wait until the pods are ready, instead of printing the commands

The pods roll back as they rolled forward: one more is ready before one goes. The Service, its address
and the ConfigMap stay as they are. A cluster that ran kube-dns keeps that Deployment until you delete
it: scaling it up again is all that is needed there.
TEXT
}

revision=0 apply=
kubectl=(kubectl)
while getopts 'han:k:' option; do
    case $option in
        h) usage; exit 0 ;;
        a) apply=1 ;;
        n) revision=$OPTARG ;;
        k)
            [[ -r $OPTARG ]] || { echo "rollback.sh: -k $OPTARG: cannot be read" >&2; exit 2; }
            kubectl+=(--kubeconfig "$OPTARG")
            ;;
        *) usage >&2; exit 2 ;;
    esac
done
[[ $revision =~ ^[0-9]+$ ]] || { echo "rollback.sh: -n $revision: not a number" >&2; exit 2; }

run() {
    if [[ $apply ]]; then "$@"; else printf '%q ' "$@" && echo; fi
}
run "${kubectl[@]}" -n kube-system rollout undo deployment/coredns "--to-revision=$revision"
run "${kubectl[@]}" -n kube-system rollout status deployment/coredns --timeout=5m
