#!/usr/bin/env bash
# Puts corelane where kube-dns or CoreDNS is: prints the manifests, or applies them with -a.
# Nothing is ever deleted; what would have to be is printed as a command, on standard error.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: deploy.sh [-r REVERSE-CIDR]... [-i DNS-IP] [-d CLUSTER-DOMAIN] [-t YAML-TEMPLATE]
                 [-k KUBECONFIG] [-I IMAGE] [-s] [-f] [-a]
       deploy.sh SERVICE-CIDR [POD-CIDR] [DNS-IP] [CLUSTER-DOMAIN] [YAML-TEMPLATE]

    -r  reverse zone of this CIDR, several times if need be; without it all reverse zones are served
    -i  the cluster DNS address; without it that of the service kube-dns, which must be there then
    -d  the cluster domain (cluster.local)
    -t  a template of CoreDNS's form instead of the manifests beside this script: CLUSTER_DNS_IP,
        CLUSTER_DOMAIN, REVERSE_CIDRS, STUBDOMAINS and UPSTREAMNAMESERVER are replaced in it
    -k  kubeconfig of the cluster
    -I  the image (corelane:0.1.0)
    -s  do not translate the ConfigMap kube-dns (stubDomains, upstreamNameservers)
    -f  write a new ConfigMap coredns even where there is one; without it the one there is kept
    -a  apply with kubectl instead of printing

    deploy.sh | kubectl apply -f -
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
domain=cluster.local dns_ip= template= image=corelane:0.1.0 translate=1 force= apply=
reverse=()
kubectl=(kubectl)

say() { printf '%s\n' "deploy.sh: $*" >&2; }
fail() { say "$@"; exit 2; }

while getopts 'hsfai:r:d:t:k:I:' option; do
    case $option in
        h) usage; exit 0 ;;
        s) translate= ;;
        f) force=1 ;;
        a) apply=1 ;;
        i) dns_ip=$OPTARG ;;
        r) reverse+=("$OPTARG") ;;
        d) domain=$OPTARG ;;
        t) template=$OPTARG ;;
        k) kubectl+=(--kubeconfig "$OPTARG") ;;
        I) image=$OPTARG ;;
        *) usage >&2; exit 1 ;;
    esac
done
shift $((OPTIND - 1))

# The form of before options: each argument is known by its shape.
for argument in "$@"; do
    if [[ -f $argument ]]; then template=$argument
    elif [[ $argument =~ ^[0-9a-fA-F.:]+/[0-9]+$ ]]; then reverse+=("$argument")
    elif [[ $argument =~ ^[0-9]+(\.[0-9]+){3}$ || $argument == *:*:* ]]; then dns_ip=$argument
    else domain=$argument
    fi
done

# What stands in a Corefile or a manifest must be what it says, and nothing that sed would read.
[[ $domain =~ ^[A-Za-z0-9._-]+$ ]] || fail "-d $domain: not a domain"
[[ -z $dns_ip || $dns_ip =~ ^[0-9a-fA-F.:]+$ ]] || fail "-i $dns_ip: not an address"
[[ $image =~ ^[A-Za-z0-9./:@_-]+$ ]] || fail "-I $image: not an image"
for cidr in "${reverse[@]}"; do
    [[ $cidr =~ ^[A-Za-z0-9.:/_-]+$ ]] || fail "-r $cidr: not a CIDR or a reverse zone"
done
[[ -z $template || -r $template ]] || fail "-t $template: cannot be read"
[[ ${#reverse[@]} -gt 0 ]] || reverse=(in-addr.arpa ip6.arpa)

there() { "${kubectl[@]}" -n kube-system get "$@" 2>/dev/null; }

if [[ -z $dns_ip ]]; then
    dns_ip=$(there service kube-dns -o 'jsonpath={.spec.clusterIP}') || true
    [[ $dns_ip =~ ^[0-9a-fA-F.:]+$ ]] ||
        fail "the service kube-dns was not found: give the cluster DNS address with -i"
fi

# The ConfigMap of kube-dns: {"corp.example": ["10.0.0.1"]} and ["10.0.0.2"].
upstream=/etc/resolv.conf stubs=
if [[ $translate ]] && command -v kubectl >/dev/null; then
    up=$(there configmap kube-dns -o 'jsonpath={.data.upstreamNameservers}' | tr -d '[]",\n' |
        tr -s ' ') || true
    stub_domains=$(there configmap kube-dns -o 'jsonpath={.data.stubDomains}' | tr -d ' \n') || true
    [[ -z ${up// /} ]] || upstream=$up
    while [[ ${stub_domains:-} =~ \"([A-Za-z0-9._-]+)\":\[([^]]*)\] ]]; do
        stub_domains=${stub_domains#*"${BASH_REMATCH[0]}"}
        servers=$(tr -d '"' <<<"${BASH_REMATCH[2]}" | tr ',' ' ')
        stubs+=$'\n'"${BASH_REMATCH[1]}:53 {
    errors
    cache 30
    loop
    forward . $servers {
        max_concurrent 1000
    }
}"
    done
    [[ ${upstream}${stubs} =~ ^[]A-Za-z0-9./:_\ {}$'\n'\[-]+$ ]] ||
        fail "the ConfigMap kube-dns holds what no Corefile can: translate it by hand, and say -s"
fi

ours() {
    # Where a CoreDNS Deployment is there, its selector is kept: it cannot be changed, and the new pods
    # must have its labels.
    local selector extra= config="$here/kubernetes/corefile/configmap.yaml"
    selector=$(there deployment coredns -o 'jsonpath={.spec.selector.matchLabels}') || true
    if [[ ${selector:-} == *'"app.kubernetes.io/name":"coredns"'* ]]; then
        extra='      app.kubernetes.io/name: coredns'
    elif [[ -n ${selector:-} && $selector != '{"k8s-app":"kube-dns"}' ]]; then
        say "the deployment coredns has another selector, which cannot be changed: $selector"
        say "delete it once the new one is to come:  kubectl -n kube-system delete deployment coredns"
    fi
    if [[ -z $force ]] && there configmap coredns >/dev/null; then
        say "the ConfigMap coredns is there and is kept (-f writes a new one)"
        config=
    fi
    local file
    for file in base/serviceaccount base/rbac base/service deployment/deployment \
        deployment/poddisruptionbudget; do
        echo ---
        case $file in
            base/service) sed "s/^spec:/&\n  clusterIP: CLUSTER_DNS_IP/" "$here/kubernetes/$file.yaml" ;;
            deployment/deployment)
                sed -e "s|image: corelane:.*|image: $image|" \
                    -e "/^    matchLabels:/{n;${extra:+a\\$extra}
                    }" "$here/kubernetes/$file.yaml"
                ;;
            *) cat "$here/kubernetes/$file.yaml" ;;
        esac
    done
    if [[ $config ]]; then
        echo ---
        sed -e 's|kubernetes cluster.local in-addr.arpa ip6.arpa|kubernetes CLUSTER_DOMAIN REVERSE_CIDRS|' \
            -e 's|forward \. /etc/resolv.conf|forward . UPSTREAMNAMESERVER|' \
            -e 's|^    }$|    }STUBDOMAINS|' "$config"
    fi
}

# In a manifest the Corefile stands four blanks in.
stubs=${stubs//$'\n'/$'\\\n    '}
render() {
    if [[ $template ]]; then cat "$template"; else ours; fi |
        sed -e "s|CLUSTER_DNS_IP|$dns_ip|g" -e "s|CLUSTER_DOMAIN|$domain|g" \
            -e "s|REVERSE_CIDRS|${reverse[*]}|g" -e "s|UPSTREAMNAMESERVER|$upstream|g" \
            -e "s|STUBDOMAINS|$stubs|g"
}

if [[ $apply ]]; then
    render | "${kubectl[@]}" apply -f -
else
    render
fi
if there deployment kube-dns >/dev/null; then
    say "kube-dns is still running; once the pods of coredns are ready:"
    say "    kubectl -n kube-system delete deployment kube-dns"
fi
