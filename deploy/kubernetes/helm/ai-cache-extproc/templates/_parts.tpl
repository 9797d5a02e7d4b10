{{- define "aicache.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: ai-cache-extproc
{{- end }}

{{- /* Every container: no privileges, no writing but into its volumes. Takes [user, group]. */}}
{{- define "aicache.containerSecurity" -}}
runAsUser: {{ index . 0 }}
runAsGroup: {{ index . 1 }}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- /* Every pod. Takes the group of its volumes, or 0. Service links would set variables that look like the cache's own. */}}
{{- define "aicache.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- if . }}
  fsGroup: {{ . }}
  {{- end }}
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "aicache.spread" -}}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
{{- end }}

{{- /* Seconds that the cache may take to stop. */}}
{{- define "aicache.drainSeconds" -}}
{{- $drain := .Values.config.drain | default dict -}}
{{- $notice := divf (get $drain "notice_ms" | default 0) 1000 -}}
{{- $streams := ternary (get $drain "streams_s") 30 (hasKey $drain "streams_s") -}}
{{- $writes := ternary (get $drain "writes_s") 5 (hasKey $drain "writes_s") -}}
{{- addf $notice $streams $writes | ceil | int -}}
{{- end }}

{{- /* The aicache document: what the chart knows, over what the values say. */}}
{{- define "aicache.document" -}}
{{- $document := deepCopy .Values.config -}}
{{- $known := dict "admin" "0.0.0.0:9901"
      "admin_access" (dict "token_file" "/run/secrets/aicache/admin-token")
      "identity" (dict "key_file" "/run/secrets/aicache/identity-key") -}}
{{- if eq .Values.kind "sidecar" }}
{{- $_ := set $known "listen" "unix:/run/aicache/aicache.sock" -}}
{{- else }}
{{- $_ := set $known "listen" "0.0.0.0:50051" -}}
{{- $_ := set $known "insecure_listen" true -}}
{{- end }}
{{- if .Values.redis.enabled }}
{{- $_ := set $document "store" (dict "type" "redis" "url" (printf "redis://%s-redis:6379/0" .Release.Name)
      "username" "aicache" "password_file" "/run/secrets/aicache/redis-password") -}}
{{- else if and (eq .Values.kind "service") (ne (dig "store" "type" "sqlite" .Values.config) "redis") (gt (int .Values.cache.replicas) 1) }}
{{- fail "kind: service with more than one replica needs a store that they share: redis.enabled true, or config.store of type redis" -}}
{{- end }}
{{- toYaml (merge $known $document) -}}
{{- end }}

{{- define "aicache.container" -}}
name: aicache
image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve, --config, /etc/aicache/aicache.yaml]
ports:
{{- if eq .Values.kind "service" }}
- { name: grpc, containerPort: 50051 }
{{- end }}
- { name: admin, containerPort: 9901 }
startupProbe:
  httpGet: { path: /livez, port: admin }
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /livez, port: admin }
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 3
{{- if eq .Values.kind "service" }}
readinessProbe:
  grpc: { port: 50051 }
  periodSeconds: 3
  failureThreshold: 2
lifecycle:
  preStop: { sleep: { seconds: 5 } }
{{- end }}
resources: {{- toYaml .Values.cache.resources | nindent 2 }}
securityContext: {{- include "aicache.containerSecurity" (list 10001 10001) | nindent 2 }}
volumeMounts:
- { name: aicache, mountPath: /etc/aicache, readOnly: true }
- { name: secrets, mountPath: /run/secrets/aicache, readOnly: true }
{{- if eq .Values.kind "sidecar" }}
- { name: socket, mountPath: /run/aicache }
{{- end }}
- { name: state, mountPath: /var/lib/aicache }
- { name: tmp, mountPath: /tmp }
{{- end }}

{{- define "aicache.volumes" -}}
- name: aicache
  configMap: { name: {{ .Release.Name }}-aicache }
- name: secrets
  secret:
    secretName: {{ .Values.secrets.cache }}
    defaultMode: 0440
{{- if eq .Values.kind "sidecar" }}
- name: socket
  emptyDir: { medium: Memory, sizeLimit: 1Mi }
{{- end }}
- name: state
  emptyDir: { sizeLimit: {{ .Values.cache.stateSize }} }
- name: tmp
  emptyDir: { sizeLimit: 64Mi }
{{- end }}
