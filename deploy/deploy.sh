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
    local octet='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])' text=$1 groups
    local v4="$octet(\.$octet){3}"
    [[ ! $text =~ ^$v4$ ]] || return 0
    # The last four octets of one of IPv6 may be written as one of IPv4.
    [[ ! $text =~ ^(.*:)$v4$ ]] || text=${BASH_REMATCH[1]}0:0
    [[ $text =~ ^([0-9a-fA-F]{0,4}:)+[0-9a-fA-F]{0,4}$ && $text != *:::* && $text != *::*::* ]] || return 1
    [[ ($text != :* || $text == ::*) && ($text != *: || $text == *::) ]] || return 1
    read -ra groups <<<"${text//:/ }"
    if [[ $text == *::* ]]; then ((${#groups[@]} <= 7)); else ((${#groups[@]} == 8)); fi
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

# The ConfigMap of kube-dns: {"corp.example": ["10.0.0.1"]} and ["10.0.0.2", "10.0.0.3:5353"]. What a node's
# cache takes and refuses is taken and refused here (src/control/node_local/kube_dns.rs compares the two).
by_hand() { fail "the ConfigMap kube-dns: $*: translate it by hand, and say -s"; }
is_domain() {
    local label='[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?'
    [[ $1 =~ ^$label(\.$label)*$ ]] && ((${#1} <= 253))
}
is_server() {
    local address=$1 port=53
    if [[ $1 =~ ^([0-9.]+):([0-9]{1,5})$ || $1 =~ ^\[([^]]*:[^]]*)\]:([0-9]{1,5})$ ]]; then
        address=${BASH_REMATCH[1]} port=${BASH_REMATCH[2]}
    fi
    is_address "$address" && ((10#$port <= 65535))
}
blank='[[:space:]]*' string='"([^"\]*)"'
strings="\\[$blank($string$blank(,$blank$string$blank)*)?\\]"
# OF-WHAT LIST: the addresses of a JSON list of strings, in `servers`.
servers_of() {
    local rest=$2
    servers=()
    [[ $rest =~ ^$blank$strings$blank$ ]] || by_hand "$1: not a list of strings"
    while [[ $rest =~ $string(.*) ]]; do
        servers+=("${BASH_REMATCH[1]}")
        rest=${BASH_REMATCH[2]}
        is_server "${servers[-1]}" || by_hand "$1: invalid nameserver: ${servers[-1]}"
    done
}
upstream=/etc/resolv.conf stubs=
declare -A stub=()
translated() { # STUB-DOMAINS UPSTREAM-NAMESERVERS, of which each may be empty
    local rest domain list
    if [[ $2 ]]; then
        servers_of upstreamNameservers "$2"
        ((${#servers[@]} <= 3)) || by_hand "upstreamNameservers: cannot have more than three entries"
        ((${#servers[@]} == 0)) || upstream=${servers[*]}
    fi
    [[ $1 ]] || return 0
    [[ $1 =~ ^$blank\{$blank(.*[^[:space:]])$blank$ ]] || by_hand "stubDomains: not an object"
    rest=${BASH_REMATCH[1]}
    while [[ $rest =~ ^$blank$string$blank:$blank($strings)$blank(,.*|\}$) ]]; do
        domain=${BASH_REMATCH[1]} list=${BASH_REMATCH[2]} rest=${BASH_REMATCH[-1]}
        is_domain "$domain" || by_hand "stubDomains: invalid domain name: $domain"
        servers_of "stubDomains: $domain" "$list"
        ((${#servers[@]} > 0)) || by_hand "stubDomains: $domain: no nameserver"
        stub[$domain]=${servers[*]}
        [[ $rest == '}' || ! ${rest#,} =~ ^$blank\}$ ]] || by_hand "stubDomains: not an object"
        rest=${rest#,}
    done
    [[ $rest == '}' ]] || by_hand "stubDomains: not an object of lists of strings"
    for domain in $(printf '%s\n' "${!stub[@]}" | LC_ALL=C sort); do
        stubs+=$'\n'"$domain:53 {
    errors
    cache 30
    loop
    forward . ${stub[$domain]} {
        max_concurrent 1000
    }
}"
    done
}
if [[ $translate ]]; then
    federations=$(there configmap kube-dns -o 'jsonpath={.data.federations}')
    [[ -z ${federations:-} ]] ||
        say "federations of the ConfigMap kube-dns are left out: there is nothing like them today"
    stub_domains=$(there configmap kube-dns -o 'jsonpath={.data.stubDomains}')
    upstreams=$(there configmap kube-dns -o 'jsonpath={.data.upstreamNameservers}')
    translated "$stub_domains" "$upstreams"
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
