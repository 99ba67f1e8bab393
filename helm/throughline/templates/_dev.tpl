{{/* A small instance of something public: StatefulSet of one, Service, volume.
     Call with (dict "root" $ "component" NAME "values" dev.NAME "port" N "uid" N "pod" YAML). */}}
{{- define "throughline.dev" -}}
{{- $name := printf "%s-%s" (include "throughline.fullname" .root) .component -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "throughline.labels" . | nindent 4 }}
spec:
  selector:
    {{- include "throughline.selector" . | nindent 4 }}
  ports:
    - {name: main, port: {{ .port }}, targetPort: main}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  labels:
    {{- include "throughline.labels" . | nindent 4 }}
spec:
  replicas: 1
  serviceName: {{ $name }}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}
  selector:
    matchLabels:
      {{- include "throughline.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "throughline.labels" . | nindent 8 }}
    spec:
      serviceAccountName: {{ include "throughline.serviceAccount" .root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext:
        runAsNonRoot: true
        runAsUser: {{ .uid }}
        runAsGroup: {{ .uid }}
        fsGroup: {{ .uid }}
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {type: RuntimeDefault}
      {{- with .root.Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ .values.image }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          securityContext:
            {{- include "throughline.containerSecurity" . | nindent 12 }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          ports:
            - {name: main, containerPort: {{ .port }}}
          readinessProbe:
            tcpSocket: {port: main}
            periodSeconds: 2
          livenessProbe:
            tcpSocket: {port: main}
            periodSeconds: 10
            failureThreshold: 12
          {{- .container | nindent 10 }}
      volumes:
        - name: tmp
          emptyDir: {}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .values.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources: {requests: {storage: {{ .values.size }}}}
{{- end }}
