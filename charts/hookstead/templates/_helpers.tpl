{{/* Objects' names begin with this: the release's name, cut so that "-gateway" and a pod's hash still fit. */}}
{{- define "hookstead.fullname" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What never changes in the life of a release; also selects. Takes (dict "root" $ "component" "gateway"). */}}
{{- define "hookstead.selectorLabels" -}}
app.kubernetes.io/name: hookstead
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "hookstead.labels" -}}
{{ include "hookstead.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: hookstead
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: ours last, so that nothing can displace what selects them. */}}
{{- define "hookstead.podLabels" -}}
{{- $own := include "hookstead.selectorLabels" . | fromYaml -}}
{{- $own = set $own "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- toYaml (mergeOverwrite (dict) .root.Values.commonLabels (.more | default dict) $own) -}}
{{- end -}}

{{- define "hookstead.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "hookstead.internalSecret" -}}
{{- .Values.internal.existingSecret | default "hookstead-internal" -}}
{{- end -}}

{{- define "hookstead.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "hookstead.containerSecurityContext" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Where pods may go. Takes (dict "root" $ "component" "gateway" "values" .Values.gateway). */}}
{{- define "hookstead.scheduling" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- $selector := dict "matchLabels" (include "hookstead.selectorLabels" . | fromYaml) }}
  {{- range .values.topologySpreadConstraints }}
  - {{- toYaml (merge (dict "labelSelector" $selector) .) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Where programs are asked how they are. Takes the path. */}}
{{- define "hookstead.probe" -}}
httpGet:
  path: {{ . }}
  port: admin
timeoutSeconds: 3
{{- end -}}

{{/* Contradictions that the schema cannot see. */}}
{{- define "hookstead.validate" -}}
{{- if and (eq .Values.gateway.auth.mode "static") .Values.gateway.auth.tokenReview -}}
{{- fail "gateway.auth.tokenReview is for gateway.auth.mode kubernetes: static keys have no token to review" -}}
{{- end -}}
{{- $egress := (.Values.environment.egress | default dict) -}}
{{- if and $egress.allowedCIDRs (ne ($egress.privateNetworks | default "Deny") "Allow") -}}
{{- fail "environment.egress.allowedCIDRs needs environment.egress.privateNetworks: Allow, else it opens nothing" -}}
{{- end -}}
{{- include "hookstead.validateStore" . -}}
{{- include "hookstead.validateAutoscaling" . -}}
{{- end -}}

{{/* One kind of store, and as many gateways as can share it. */}}
{{- define "hookstead.validateStore" -}}
{{- $store := .Values.store -}}
{{- $gateway := .Values.gateway -}}
{{- if eq $store.type "postgresql" -}}
{{- if not $store.postgresql.existingSecret -}}
{{- fail "store.postgresql.existingSecret is empty: with store.type postgresql it names the Secret with the database's URL" -}}
{{- end -}}
{{- if $store.persistence.existingClaim -}}
{{- fail "store.persistence.existingClaim is for store.type sqlite: with postgresql there is no volume (hookstead store copy brings its events into the database)" -}}
{{- end -}}
{{- if not (kindIs "invalid" $gateway.minFreeBytes) -}}
{{- fail "gateway.minFreeBytes is for store.type sqlite: the disk of a database is not the gateway's to measure" -}}
{{- end -}}
{{- else -}}
{{- if or $store.postgresql.existingSecret $store.postgresql.ca.existingSecret -}}
{{- fail "store.postgresql is given, and store.type is sqlite: events would go to the volume; set store.type: postgresql" -}}
{{- end -}}
{{- if ne (int ($gateway.replicas | default 1)) 1 -}}
{{- fail (printf "gateway.replicas: %d needs store.type: postgresql: a SQLite store belongs to one process" (int $gateway.replicas)) -}}
{{- end -}}
{{- if $gateway.autoscaling.enabled -}}
{{- fail "gateway.autoscaling.enabled needs store.type: postgresql: a SQLite store belongs to one process" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "hookstead.validateAutoscaling" -}}
{{- $scaling := .Values.gateway.autoscaling -}}
{{- if $scaling.enabled -}}
{{- if lt (int $scaling.maxReplicas) (int $scaling.minReplicas) -}}
{{- fail (printf "gateway.autoscaling.maxReplicas: %d is less than minReplicas: %d" (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- end -}}
{{- $noAge := kindIs "invalid" $scaling.targetQueueAgeSeconds -}}
{{- $noCPU := kindIs "invalid" $scaling.targetCPUPercent -}}
{{- if and $noAge $noCPU -}}
{{- fail "gateway.autoscaling.enabled needs targetQueueAgeSeconds, targetCPUPercent, or both: something to go by" -}}
{{- end -}}
{{- if not (or $noCPU (dig "requests" "cpu" "" .Values.gateway.resources)) -}}
{{- fail "gateway.autoscaling.targetCPUPercent is a percentage of gateway.resources.requests.cpu, which is not given" -}}
{{- end -}}
{{- end -}}
{{- end -}}
