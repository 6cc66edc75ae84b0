{{- define "corelane.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* As CoreDNS's chart forms it, so that a release keeps its names. */}}
{{- define "corelane.fullname" -}}
{{- $name := include "corelane.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "corelane.k8sApp" -}}
{{ default (include "corelane.name" .) .Values.k8sAppLabelOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* What pods are selected by: (dict "root" $ "suffix" "-autoscaler"). */}}
{{- define "corelane.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/name: {{ include "corelane.name" .root }}{{ .suffix }}
{{- if .root.Values.isClusterService }}
k8s-app: {{ include "corelane.k8sApp" .root }}{{ .suffix }}
{{- end }}
{{- end }}

{{- /* namespace, labels and annotations: (dict "root" $ "suffix" "" "annotations" (list …)). */}}
{{- define "corelane.metadata" -}}
{{- if not .cluster }}
namespace: {{ .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "corelane.selector" . | nindent 2 }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") | quote }}
  {{- if .root.Values.isClusterService }}
  kubernetes.io/cluster-service: "true"
  kubernetes.io/name: CoreDNS
  {{- end }}
  {{- range list .root.Values.customLabels .labels }}
  {{- with . }}{{ toYaml . | nindent 2 }}{{ end }}
  {{- end }}
{{- $annotations := dict }}
{{- range concat (list .root.Values.customAnnotations) (default list .annotations) }}
{{- $annotations = merge $annotations (deepCopy (default dict .)) }}
{{- end }}
{{- with $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The ports that the servers listen on, as {"53": {"udp": true, "tcp": true, …}} in JSON. */}}
{{- define "corelane.ports" -}}
{{- $ports := dict }}
{{- range $server := .Values.servers }}
  {{- $port := default 53 $server.port | toString }}
  {{- $entry := default (dict "udp" false "tcp" false) (get $ports $port) }}
  {{- range default (list dict) $server.zones }}
    {{- if has (default "dns://" .scheme) (list "dns://" "quic://" "https3://") }}
      {{- $_ := set $entry "udp" true }}
      {{- if .use_tcp }}{{ $_ := set $entry "tcp" true }}{{ end }}
    {{- else }}
      {{- $_ := set $entry "tcp" true }}
    {{- end }}
  {{- end }}
  {{- range $key := list "servicePort" "nodePort" "hostPort" }}
    {{- with get $server $key }}{{ $_ := set $entry $key (int .) }}{{ end }}
  {{- end }}
  {{- $_ := set $ports $port $entry }}
{{- end }}
{{- toJson $ports }}
{{- end }}

{{- /* The port of the first `prometheus`, or nothing. */}}
{{- define "corelane.metricsPort" -}}
{{- $found := "" }}
{{- range .Values.servers }}{{ range .plugins }}
  {{- if and (eq .name "prometheus") (not $found) }}
    {{- $found = default "localhost:9153" .parameters | toString | splitList ":" | last }}
  {{- end }}
{{- end }}{{ end }}
{{- $found }}
{{- end }}

{{- define "corelane.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "corelane.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- define "corelane.probe" -}}
httpGet: {path: {{ .path }}, port: {{ .port }}, scheme: HTTP}
{{ omit .probe "enabled" | toYaml }}
{{- end }}

{{- /* Values of CoreDNS's chart, old and new, that cannot be honoured: nothing is rendered with them. */}}
{{- define "corelane.refusals" -}}
{{- if regexMatch "(^|/)coredns(/coredns)?$" .Values.image.repository }}
{{- fail (printf "image.repository %s is CoreDNS's own image: give the one that deploy/image has made" .Values.image.repository) }}
{{- end }}
{{- if .Values.rbac.pspEnable }}
{{- fail "rbac.pspEnable: Kubernetes has no PodSecurityPolicy since 1.25, and pods need no rule for it: leave it out" }}
{{- end }}
{{- if .Values.preStopSleep }}
{{- fail "preStopSleep: there is no sleep in the image; lameduck of the plugin health has the same effect" }}
{{- end }}
{{- if .Values.dnsConfig }}
{{- fail "dnsConfig: its place is deployment.dnsConfig" }}
{{- end }}
{{- if and (eq .Values.deployment.dnsPolicy "None") (not .Values.deployment.dnsConfig) }}
{{- fail "deployment.dnsPolicy None needs deployment.dnsConfig" }}
{{- end }}
{{- end }}
