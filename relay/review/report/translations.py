"""The report and the digest in Chinese, keyed by the English sentences.

Reasons, event names and obstacles are not translated: `relayctl audit search` takes these words, and
docs/reference/audit-log.md explains them. A test checks that no sentence of the page is missing here.
"""


class Translator:
    """Translates the sentences of the page; a sentence without a translation stays English."""

    def __init__(self, language: str) -> None:
        self._table = CHINESE if language == "zh" else {}

    def __call__(self, sentence: str) -> str:
        """The translated sentence; its gaps ({person} ...) stay as they are."""
        return self._table.get(sentence, sentence)


CHINESE: dict[str, str] = {
    # the frame
    "Who reached what": "谁访问了什么",
    "made {time} by relayctl audit report": "由 relayctl audit report 生成于 {time}",
    "Contents": "目录",
    "To look at": "需要留意",
    "Forwards and bytes over time": "转发与流量走势",
    "Who reached which host": "谁访问了哪台主机",
    "At which hours": "在什么时段",
    "People": "人员",
    "What was denied": "被拒绝的",
    "Longest and largest": "最久与最大",
    "What is new": "新出现的",
    "What is unused": "没有用到的",
    "Zone outages": "网区中断",
    "Changes, penalties, scans": "变更、惩罚、扫描",
    "The log itself": "日志本身",
    # totals
    "forwards": "转发",
    "denied": "被拒绝",
    "bytes": "流量",
    "people": "人员",
    "hosts": "主机",
    "log-ins": "登录",
    "time open": "连接时长",
    "still open": "仍打开",
    "{count} more": "还有 {count} 条",
    "{count} more; all of them:": "还有 {count} 条；查看全部：",
    "Nothing that has not been so before.": "没有新情况。",
    # over time
    "Forwards per hour": "转发数（每小时）",
    "Forwards per day": "转发数（每天）",
    "Forwards per week": "转发数（每周）",
    "Forwards per month": "转发数（每月）",
    "Bytes per hour": "流量（每小时）",
    "Bytes per day": "流量（每天）",
    "Bytes per week": "流量（每周）",
    "Bytes per month": "流量（每月）",
    "{count} in all, most at {label}": "共 {count} 次，最多在 {label}",
    "{sent} to targets, {received} from them; counted when a forward ends": (
        "发往目标 {sent}，来自目标 {received}；在转发结束时计入"
    ),
    "opened": "已打开",
    "from targets": "来自目标",
    "to targets": "发往目标",
    "begins": "开始",
    "The same in numbers": "用数字表示",
    # people and hosts
    "No forward was opened.": "没有打开过转发。",
    "Forwards of each person to each host": "每个人到每台主机的转发数",
    "the {persons} busiest of {all_persons} people, the {places} busiest of {all_places} hosts": (
        "{all_persons} 人中最忙的 {persons} 人，{all_places} 台主机中最忙的 {places} 台"
    ),
    "Each pair in numbers": "每一对的数字",
    "Each pair in numbers, most bytes first": "每一对的数字，流量最多的在前",
    "person": "人员",
    "host": "主机",
    "zone": "网区",
    "address": "地址",
    "sent": "发送",
    "received": "接收",
    "Mon": "周一",
    "Tue": "周二",
    "Wed": "周三",
    "Thu": "周四",
    "Fri": "周五",
    "Sat": "周六",
    "Sun": "周日",
    "Forwards opened in each hour of the week, {zone}": "一周中每个小时打开的转发数，{zone}",
    "No one used the relay.": "没有人使用过中继。",
    "Bytes of each person": "每个人的流量",
    "the {count} with the most": "最多的 {count} 人",
    "Each person, most bytes first": "每个人，流量最多的在前",
    # denials
    "Denied forwards by reason": "按原因统计的拒绝",
    "{count} in all": "共 {count} 次",
    "By reason": "按原因",
    "By the client's network": "按客户端网络",
    "No forward was denied.": "没有转发被拒绝。",
    "reason": "原因",
    "from": "来自",
    "kind": "种类",
    "type": "类型",
    "times": "次数",
    "what": "内容",
    "asked for, most often": "最常请求的目标",
    "last": "最近一次",
    "last id": "最近的编号",
    "Refused requests: shells, listeners and everything else that is no jump": (
        "被拒绝的请求：终端、监听，以及一切非跳转的请求"
    ),
    "Clients that did not prove a key (kept for a shorter time)": "未证明密钥的客户端（保留时间较短）",
    # longest and largest
    "open": "打开",
    "target": "目标",
    "duration": "时长",
    "end": "结束",
    "id": "编号",
    "relayctl audit show ID shows the history of each.": "relayctl audit show 编号 会显示每一次的经过。",
    "The longest": "最久的",
    "The largest": "流量最大的",
    # new
    "a person": "人员",
    "a key": "密钥",
    "a network": "网络",
    "a target": "目标",
    "a client version": "客户端版本",
    "a client program": "客户端程序",
    "The log begins in this window: there is nothing to compare with.": "日志从这段时间内才开始，没有可比较的。",
    "Compared with everything in the log before, which begins {time}.": "与此前日志中的一切相比；日志始于 {time}。",
    "Nothing is new.": "没有新出现的。",
    "what is new": "新的是",
    "which": "哪一个",
    "first seen": "首次出现",
    "Seen for the first time": "首次见到",
    # unused
    "The running configuration cannot be read, so it is not known what is unused.": (
        "读不到已生效的配置，因此不知道哪些没有用到。"
    ),
    "Everything that the site holds was used.": "站点里的一切都用到了。",
    "a host": "主机",
    "a rule": "规则",
    "a deny rule": "拒绝规则",
    "never": "从未",
    "name": "名称",
    "owner": "所有者",
    "last used": "上次使用",
    "stands in": "所在位置",
    "remove with": "删除的命令",
    (
        "Not used in this window, by policy {policy}. The lines of each file are listed from the bottom up, so line "
        "numbers stay right if you delete them in this order. Then run relayctl check and relayctl reload. A deny rule "
        "that denied nothing may still be needed. To block a key permanently: relayctl revoke-key."
    ): (
        "按策略 {policy}，这段时间内毫无痕迹的条目。"
        "行号在每个文件里自下而上排列，逐条删除时不会错位；之后运行 relayctl check 和 "
        "relayctl reload。没有拒绝过任何人的拒绝规则可能正在起作用。要永久禁用一把密钥：relayctl revoke-key。"
    ),
    "Unused rules, people, keys and hosts": "没有人用到的规则、人员、密钥和主机",
    # outages
    "No zone was down.": "没有网区中断。",
    "{reason} (still down)": "{reason}（仍中断）",
    "since": "开始于",
    "obstacle": "障碍",
    "detail": "详情",
    "forwards cut": "被切断的转发",
    "When a zone could not be reached": "网区无法到达的时段",
    # changes
    "Nothing was changed.": "没有变更。",
    "time": "时间",
    "event": "事件",
    "about": "关于",
    "more": "更多",
    "by": "操作者",
    "Newest first": "最新的在前",
    # the log
    "rows in this window": "这段时间的行数",
    "last row": "最后一行",
    "its hash": "它的哈希",
    "checkpoints": "检查点",
    "last checkpoint": "最后一个检查点",
    "rows behind it": "其后的行数",
    "{count} {what} are left out here": "这里省略了 {count} 个 {what}",
    (
        "The content of forwards is not recorded, and cannot be. This page is not evidence: relayctl audit verify "
        "proves the log, and an anchor kept elsewhere proves that nothing is missing at its end."
    ): (
        "转发里传输的内容没有记录，也无法记录。"
        "本页不是证据：relayctl audit verify 证明日志，保存在别处的锚点证明其末尾没有缺失。"
    ),
    "integrity (no row was changed): {state}": "完整性（没有行被改动）：{state}",
    "completeness (no row is missing): {state}": "齐全性（没有行缺失）：{state}",
    "authenticity (this relay wrote it): {state}": "真实性（由本中继写入）：{state}",
    "the log has a fault at row {row}: {what}": "日志第 {row} 行有错误：{what}",
    "not proven: {what}": "未能证明：{what}",
    "The log was not verified for this page.": "生成本页时没有验证日志。",
    # news
    "{node}: news from {since} to {until} ({zone})": "{node}：{since} 至 {until} 的新情况（{zone}）",
    "{person} was here for the first time": "{person} 第一次来",
    "{person} used a new key, {what}": "{person} 使用了新密钥 {what}",
    "{person} came from a new network, {what}": "{person} 来自新的网络 {what}",
    "a client version not seen before, {what}, by {person}": "{person} 使用了从未见过的客户端版本 {what}",
    "{person} used another program, {what}": "{person} 换用了程序 {what}",
    "{person} reached for the first time: {what}": "{person} 第一次访问：{what}",
    "{person} was denied {count} forwards; usual: {usual}": "{person} 有 {count} 次转发被拒绝；平常为 {usual} 次",
    "the zone {zone} is down: {reason}": "网区 {zone} 中断：{reason}",
    "the zone {zone} was down for {span} (outages: {count}), last: {reason}": (
        "网区 {zone} 共中断 {span}（{count} 次），最近一次：{reason}"
    ),
    "{person} tried {count} different targets within a minute": "{person} 一分钟内尝试了 {count} 个不同的目标",
    "a key of {person} was frozen: {reason}": "{person} 的一把密钥被冻结：{reason}",
    "a key of {person} was revoked by {by}: {why}": "{by} 吊销了 {person} 的一把密钥：{why}",
    "a key of {person} was let in by {by}": "{by} 加入了 {person} 的一把密钥",
    "a key of {person} was removed by {by}": "{by} 移除了 {person} 的一把密钥",
    "files of the site were refused: {detail}": "站点文件被拒绝：{detail}",
    "rows of the audit log that could not be written: {count} ({reason})": "未能写入的审计日志行：{count}（{reason}）",
    "the audit log has a new signing key: {reason}": "审计日志换了新的签名密钥：{reason}",
    "a backup was restored by {by}": "{by} 恢复了备份",
    "penalised sources: {what} (penalties: {count})": "被限速的来源：{what}（{count} 次）",
    "the limit of connections was reached by {person} (minutes: {count})": "{person} 达到了连接数上限（{count} 分钟）",
    "the limit of forwards_per_connection was reached by {person} (minutes: {count})": (
        "{person} 达到了单个连接的转发数上限（{count} 分钟）"
    ),
    "the limit of forwards_per_person was reached by {person} (minutes: {count})": (
        "{person} 达到了转发数上限（{count} 分钟）"
    ),
    "the limit of forwards_per_key was reached by {person} (minutes: {count})": (
        "{person} 达到了单个密钥的转发数上限（{count} 分钟）"
    ),
    "the limit of forwards_per_target was reached by {person} (minutes: {count})": (
        "{person} 达到了单个目标的转发数上限（{count} 分钟）"
    ),
    "the limit of {what} was reached by {person} (minutes: {count})": "{person} 达到了上限 {what}（{count} 分钟）",
    "a key of {what} ends in {days} days ({at})": "{what} 的一把密钥将在 {days} 天后到期（{at}）",
    "a key of {what} has ended ({at})": "{what} 的一把密钥已到期（{at}）",
    "the rule {what} ends in {days} days ({at})": "规则 {what} 将在 {days} 天后到期（{at}）",
    "the rule {what} has ended ({at})": "规则 {what} 已到期（{at}）",
}
