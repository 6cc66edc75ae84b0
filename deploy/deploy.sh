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
        CLUSTER_DOMAIN, REVERSE_CIDRS, STUBDOMAINS and UPSTREAMNAMESERVER are replaced in it;
        FEDERATIONS, of older ones, goes
    -k  kubeconfig of the cluster
    -I  the image (corelane:0.1.0)
    -s  do not translate the ConfigMap kube-dns (stubDomains, upstreamNameservers)
    -f  write a new ConfigMap coredns even where there is one; without it the one there is kept
    -a  apply with kubectl instead of printing

    deploy.sh | kubectl apply -f -

Status 2: an argument is wrong, or the cluster does not tell what is needed; nothing is printed then.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
domain=cluster.local dns_ip= template= kubeconfig= image=corelane:0.1.0 translate=1 force= apply=
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
        k) kubeconfig=$OPTARG ;;
        I) image=$OPTARG ;;
        *) usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))

# The form of before options: each argument is known by its shape.
for argument in "$@"; do
    if [[ -f $argument ]]; then template=$argument
    elif [[ $argument =~ ^[0-9a-fA-F.:]+/[0-9]+$ ]]; then reverse+=("$argument")
    elif [[ $argument =~ ^[0-9]+(\.[0-9]+){3}$ || $argument == *:*:* ]]; then dns_ip=$argument
    elif [[ $domain == cluster.local ]]; then domain=$argument
    else fail "$argument: not a CIDR, an address or a file, and the domain is $domain already"
    fi
done

# What stands in a Corefile or a manifest must be what it says, and nothing that sed would read.
[[ $domain =~ ^[A-Za-z0-9._-]+$ ]] || fail "-d $domain: not a domain"
is_address() {
    local octet='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
    [[ $1 =~ ^$octet(\.$octet){3}$ || $1 =~ ^[0-9a-fA-F:]*:[0-9a-fA-F:]*(:[0-9.]+)?$ && $1 == *:*:* ]]
}
is_cidr() {
    local most=32
    [[ $1 != *:* ]] || most=128
    is_address "${1%/*}" && [[ ${1##*/} =~ ^[0-9]{1,3}$ ]] && ((10#${1##*/} <= most))
}
[[ -z $dns_ip ]] || is_address "$dns_ip" || fail "-i $dns_ip: not an address"
[[ $image =~ ^[A-Za-z0-9./:@_-]+$ ]] || fail "-I $image: not an image"
for cidr in "${reverse[@]}"; do
    is_cidr "$cidr" || [[ $cidr =~ ^[A-Za-z0-9._/-]+\.arpa\.?$ ]] ||
        fail "-r $cidr: not a CIDR or a reverse zone"
done
[[ -z $kubeconfig || -r $kubeconfig ]] || fail "-k $kubeconfig: cannot be read"
[[ -z $kubeconfig ]] || kubectl+=(--kubeconfig "$kubeconfig")
[[ -z $template || -r $template ]] || fail "-t $template: cannot be read"
[[ ${#reverse[@]} -gt 0 ]] || reverse=(in-addr.arpa ip6.arpa)

# Why the cluster cannot be asked, if it cannot.
mute=
if ! command -v kubectl >/dev/null; then mute="there is no kubectl"
elif ! mute=$("${kubectl[@]}" get --raw /version --request-timeout=10s 2>&1 >/dev/null); then
    mute=$(tail -n 1 <<<"$mute")
    mute=${mute:-kubectl fails}
else mute=
fi

# An object of the cluster, or a part of it; nothing where there is none. What kubectl has to say of
# anything else ends the script.
there() {
    [[ -z $mute ]] || return 0
    "${kubectl[@]}" -n kube-system get --ignore-not-found "$@"
}

if [[ -z $dns_ip ]]; then
    [[ -z $mute ]] ||
        fail "the cluster cannot be asked ($mute): give the cluster DNS address with -i"
    dns_ip=$(there service kube-dns -o 'jsonpath={.spec.clusterIP}')
    is_address "$dns_ip" ||
        fail "the service kube-dns was not found: give the cluster DNS address with -i"
fi
[[ -z $mute ]] || say "the cluster cannot be asked ($mute): its Deployment and ConfigMaps are not looked at"

# Asked here, so that an answer which does not come ends the script before anything is printed.
selector=$(there deployment coredns -o 'jsonpath={.spec.selector.matchLabels}')
kept=$(there configmap coredns -o name)
before=$(there deployment kube-dns -o name)

# The ConfigMap of kube-dns: {"corp.example": ["10.0.0.1"]} and ["10.0.0.2"].
upstream=/etc/resolv.conf stubs=
if [[ $translate ]]; then
    up=$(there configmap kube-dns -o 'jsonpath={.data.upstreamNameservers}' | tr -d '[]"\n' |
        tr -s ', ' ' ')
    stub_domains=$(there configmap kube-dns -o 'jsonpath={.data.stubDomains}' | tr -d ' \n')
    federations=$(there configmap kube-dns -o 'jsonpath={.data.federations}')
    [[ -z ${federations:-} ]] ||
        say "federations of the ConfigMap kube-dns are left out: there is nothing like them today"
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
    local extra= config="$here/kubernetes/corefile/configmap.yaml"
    if [[ $selector == *'"app.kubernetes.io/name":"coredns"'* ]]; then
        extra='      app.kubernetes.io/name: coredns'
    elif [[ -n $selector && $selector != '{"k8s-app":"kube-dns"}' ]]; then
        say "the deployment coredns has another selector, which cannot be changed: $selector"
        say "delete it once the new one is to come:  kubectl -n kube-system delete deployment coredns"
    fi
    if [[ -z $force && -n $kept ]]; then
        say "the ConfigMap coredns is there and is kept (-f writes a new one); look at what it says:"
        say "    ${kubectl[*]} -n kube-system get configmap coredns -o 'jsonpath={.data.Corefile}' |"
        say "        corelane check -     # of a CoreDNS before 1.7: corelane migrate - rewrites it"
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
            -e "s|STUBDOMAINS|$stubs|g" -e 's|FEDERATIONS||g'
}

if [[ $apply ]]; then
    render | "${kubectl[@]}" apply -f -
else
    render
fi
if [[ $before ]]; then
    say "kube-dns is still running; once the pods of coredns are ready:"
    say "    kubectl -n kube-system delete deployment kube-dns"
fi
