"""The table of refusals: how each is known, and whose matter it is. Data only; `refusals.find` reads it.

The first row that fits decides. A row fits when the status is one of its own, all of `given` hold and none of `unless`,
and the refusal has one of its `signs` or `words`, where the row has any.

Rows that mark a provider look at no word that a client may have chosen: quoted parts are left out, and the longest
cooldowns want more (`Row.looks_at`).
"""
# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import enum
import re

import msgspec

from balancer.model import RefusalClass
from balancer.policy.verdicts import Proof, Scope, Trouble


class Feature(enum.Enum):
    """What is seen of a refusal as a whole."""

    RULE = "it fits a row of error_rules"
    CALLERS_OWN = "the provider type says that it is the request's"
    ELSEWHERE = "the provider type says that another provider may take it"
    OVERFLOW = "the prompt is too long"
    PATH = "it begins with the path of a field"
    FIELD = "it names a field of the request"
    FOREIGN = "it has the form of no API's error: a page, another server's body"
    WORDED = "it says more than that nothing was found"
    FINAL = "x-should-retry: false"
    WINDOW = "a window of the whole account is used up"
    TIMED = "it says when to ask again"
    TOO_LARGE = "its type is request_too_large"
    OVERLOADED = "its type is overloaded_error"


class Look(enum.Enum):
    """Which part of the words counts."""

    ALL = "all"
    OUTSIDE = "outside quotes"
    STRICT = "outside everything between the first and the last quote"


class Row(msgspec.Struct, frozen=True):
    """One kind of refusal."""

    name: str
    refusal: RefusalClass
    statuses: frozenset[int] = frozenset()
    """Empty: any."""
    signs: tuple[str, ...] = ()
    """Parts of the error's machine-readable words, in small letters and digits only."""
    words: re.Pattern[str] | None = None
    given: frozenset[Feature] = frozenset()
    unless: frozenset[Feature] = frozenset()
    scope: Scope | None = Scope.PROVIDER
    """What cools down; None: nothing does."""
    trouble: Trouble | None = None
    proof: Proof = Proof.CERTAIN
    stands_for: int | None = None
    """The status that says the same, where the refusal came with another."""

    @property
    def looks_at(self) -> Look:
        """Which part of the words counts: the more follows from it, the less of them may be a client's."""
        if self.scope is None:
            return Look.ALL
        return Look.STRICT if self.trouble else Look.OUTSIDE

    @property
    def is_said(self) -> bool:
        """It goes by what the refusal says, not by its status and form alone."""
        return bool(self.signs) or self.words is not None


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE | re.DOTALL)


C, S, T, F = RefusalClass, Scope, Trouble, Feature

_BAD = frozenset({400, 413, 422})
_BAD_OR_GONE = _BAD | {403, 404, 410}
_REFUSED = _BAD | {401, 402, 403, 404, 406, 409, 410, 412, 429, 451}
_OF_THE_FORM = frozenset({405, 406, 411, 412, 414, 415, 416, 417, 428, 431})
_FAILED = frozenset({*range(300, 400), 408, 409, 425, 499, *range(500, 1000)})

_PATH = frozenset({F.PATH})
_NO_PATH_OR_TIME = frozenset({F.PATH, F.TIMED})

_MODEL = _words(
    r"^model: |\b(?:unknown|invalid|unsupported|unrecognized|no such|not a valid|nonexistent) model|model_not_found",
    r"no model named|\bmodels?/\S{1,100} is not (?:found|supported)|requested entity was not found",
    r"not have access to (?:the |this )?(?:requested )?model|model access is denied|not allowed to access model",
    r"(?:access to|permission to use|use of) (?:the )?[`'\"]?(?:claude|gpt|gemini|grok|llama|mi[sx]tral|deepseek|qwen|glm|kimi|o[134])\b",
    r"no (?:endpoints?|available channels?|allowed providers?|instances?|deployments?)\b.{0,30}\b(?:found|available)?"
    r" ?(?:for|under)\b(?!.{0,40}\bsupport)",
    r"the api deployment for this resource does not exist|模型.{0,60}不存在|无可用渠道|\bnot found the model\b",
    r"\bmodels? (?:is |are )?not allowed\b|can only (?:access|use|call) (?:the )?(?:following )?models?\b",
    r"\brestricted to (?:other|certain|specific|some) models\b",
    r"\bmodel(?: id| name| identifier)?[\s:=]{0,4}"
    r"(?:(?:[`'\"][\w.:/@\[\]…-]{1,100}[`'\"]|(?=[a-z]{0,40}[-.:/\d])[\w.:/@\[\]-]{1,100})[\s,:]{1,3})??"
    r"(?:(?:is|was|does|has been|could|has) )?(?:currently )?"
    r"(?:(?:not (?:be )?|(?:cannot|can't) be )(?:found|exist|supported|available|valid)"
    r"|unavailable|invalid|no longer (?:supported|available)|deprecated|decommissioned|retired|been retired|disabled)",
)
"""The model itself is missing; not something that a model lacks ("thinking is not supported by this model")."""

_WHO_ASKS = (
    r"\b(?:your|this|the|its|an?) (?:[\w-]{1,30} ){0,2}"
    r"(?:account|workspace|organi[sz]ation|subscription|membership|credential|tenant|licen[cs]e|api[ _-]?(?:key|token))s?\b"
    r"|\b(?:your|its) (?:[\w-]{1,30} ){0,2}(?:plan|wallet|payment|billing|invoice|balance|trial|usage|quota|credits?|tier|project)\b"
    r"|\b(?:extra|plan|subscription|api) usage\b|\b(?:oauth|access|bearer|auth) tokens?\b|\bpayment method\b"
    r"|\b(?:this|the|your) key\b|^(?:account|subscription|membership|billing|payment|api key)\b"
    r"|\b(?:subscription|payment|membership|kyc|billing|recharge)\b.{0,30}\b(?:required|needed|necessary|before|first|declined|failed|to continue)\b"
    r"|\b(?:complete|pass|finish) (?:the )?kyc\b|\bon (?:this|the|your) (?:\w{1,20} )?plan\b|\b(?:subscribe|upgrade) to\b"
)
"""Who asks, and not what is asked."""

ROWS = (
    # Said by a dialect, which knows more
    Row("the request's own, says the provider type", C.REQUEST, given=frozenset({F.CALLERS_OWN}), scope=None),
    Row("too much for this provider", C.CAPABILITY, given=frozenset({F.ELSEWHERE}), scope=None),
    # Said by the type or by Claude Code's own words, whatever the status
    Row("policy blocked", C.REQUEST, signs=("policyblocked",), scope=None),
    Row("prompt too long", C.REQUEST, _BAD, given=frozenset({F.OVERFLOW}), scope=None),
    Row(
        "too much of the request, in Claude Code's words", C.REQUEST, _BAD, scope=None,
        words=_words(r"^capability_rejected: (?:prompt_too_long|max_tokens_context_overflow|media_budget)"),
    ),
    Row("capability rejected, in Claude Code's words", C.CAPABILITY, _BAD, words=_words(r"^capability_rejected: "), scope=None),
    Row(
        "content policy", C.REQUEST, _BAD | {403, 451}, scope=None,
        signs=("contentfilter", "contentpolicy", "datainspection", "responsibleai", "sensitivecontent", "promptblocked"),
        words=_words(
            r"content[ _-](?:filter(?:ing)?|policy|management policy|moderation|safety)",
            r"(?:input|prompt|request|message|output|content) (?:was|has been|is|were) (?:flagged|blocked|rejected by (?:our|the) safety)",
            r"requires moderation|inappropriate content|safety system|safety[ _]check"
            r"|(?:content|input|prompt|request|message|output|image)s? violates?\b",
        ),
    ),
    # Capability: another provider may take it, nobody cools down
    Row(
        "thinking of another origin", C.CAPABILITY, _BAD, scope=None,
        signs=("invalidencryptedcontent", "thoughtsignature"),
        words=_words(
            r"thinking[`'\"]? blocks?|redacted_thinking|\.(?:thinking|signature|redacted_thinking): ",
            r"(?:invalid|unexpected|missing|wrong|bad).{0,40}signature|signature.{0,80}(?:thinking|invalid|verif|valid)",
            r"thought_?signature|bound to (?:a different|another)|block_binding|prefix_mismatch",
            r"reasoning_(?:content|details|opaque).{0,80}(?:missing|must|passed back|required)|missing.{0,40}reasoning_",
            r"encrypted[ _](?:content|reasoning).{0,80}(?:verif|decrypt|invalid|could not)|reasoning item",
            r"expected.{0,20}\bthinking\b|thinking.{0,60}(?:cannot be modified|must be preserved|must remain|other model|different model)",
        ),
    ),
    Row(
        "unknown beta", C.CAPABILITY, _BAD_OR_GONE, scope=None,
        words=_words(
            r"anthropic-beta|(?<![\w-])beta(?![\w-]).{0,100}\b(?:not|unavailable|unknown|unsupported|invalid|without|requires?)\b",
            r"(?:unknown|unsupported|unexpected|invalid|unrecognized|no such) (?:[\w-]{1,30} )?betas?\b",
        ),
    ),
    Row(
        "long context", C.LIMIT, _REFUSED, scope=None,
        words=_words(r"\blong[ -]context|context[ -]1m\b|\b1m[ -](?:token )?context|\b1m context"),
    ),
    Row(
        "file or container of another account", C.CAPABILITY, _BAD_OR_GONE, scope=None,
        signs=("filenotfound", "containernotfound", "containerexpired", "previousresponsenotfound"),
        words=_words(
            r"\b(?:files?|containers?|skills?|batch(?:es)?|uploads?|vector[ _]stores?|memory[ _]stores?|responses?|previous_response"
            r"|documents?|attachments?|assets?|items?|threads?|sessions?|caches?|cached ?contents?|environments?|vaults?)\b"
            r"[ _]?(?:ids?\b)?.{0,120}?(?:not (?:be )?found|(?:does|do) not exist|doesn't exist|no longer|expired"
            r"|not (?:accessible|available|owned)|different (?:account|workspace|organi[sz]ation))",
            r"no (?:such )?(?:file|container|skill|batch|upload|response|document|item)s? (?:found )?(?:with|for|named)?"
            r"|(?:unknown|invalid) (?:file|container|skill|batch)(?:[ _]id)?\b|previous_response_id",
        ),
    ),
    Row(
        "a field of the request", C.REQUEST, _BAD, scope=None,
        words=_words(r"^model: (?:field required|(?:input|string|value) (?:should|must)|extra inputs|none is not)"),
    ),
    # Models
    Row(
        "unknown model", C.MODEL, _BAD_OR_GONE | {401}, unless=_PATH, scope=S.MODEL,
        signs=("modelnotfound", "deploymentnotfound", "modelnotexist", "invalidmodel", "unknownmodel", "modelnotsupported",
               "unsupportedmodel", "modelnotavailable", "modeldecommissioned", "modelaccessdenied", "nosuchmodel"),
        words=_MODEL,
    ),
    Row(
        "no channel for the model", C.MODEL, frozenset({500, 503}), scope=S.MODEL,
        signs=("modelnotfound", "noavailablechannel", "nosuchmodel", "unknownmodel"), words=_words(r"无可用渠道|no available channels? for"),
    ),
    # Accounts: only a person can mend it
    Row(
        "no credit", C.ACCOUNT, trouble=T.CREDIT, unless=frozenset({F.TIMED}),
        signs=("insufficientquota", "insufficientuserquota", "insufficientbalance", "insufficientcredit", "insufficientfunds",
               "billingerror", "billinghardlimit", "billingnotactive", "exceededcurrentquota", "arrearage", "quotanotenough",
               "quotaexhausted", "paymentrequired", "outofcredit", "creditbalance", "accountoverdue", "preconsumetokenquota",
               "creditsexhausted", "nocredit", "balanceinsufficient"),
    ),
    Row(
        "spending limit", C.ACCOUNT, trouble=T.SPEND_CAP, unless=frozenset({F.TIMED}),
        signs=("spendlimit", "spendinglimit", "spendcap", "usagelimitreached", "budgetexceeded", "usagelimitexceeded"),
    ),
    Row(
        "key refused", C.ACCOUNT, _REFUSED, trouble=T.KEY, unless=_PATH,
        signs=("invalidapikey", "apikeyinvalid", "incorrectapikey", "authenticationerror", "unauthenticated", "invalidkey",
               "tokenexpired", "invalidtoken", "unauthorized", "keyexpired", "apikeyexpired", "oauthtokenexpired"),
    ),
    Row(
        "account or region", C.ACCOUNT, _REFUSED, trouble=T.ACCESS,
        signs=("unsupportedcountry", "unsupportedregion", "accountdeactivated", "accountdisabled", "accountsuspended",
               "organizationdisabled", "userlocation", "regionnotsupported", "usernotverified", "accountinactive",
               "accountnotactive", "organizationnotfound", "accountbanned", "userdisabled"),
    ),
    Row(
        "too little credit for this request", C.ACCOUNT, _REFUSED, trouble=T.CREDIT, unless=_NO_PATH_OR_TIME, proof=Proof.UNSURE,
        words=_words(r"fewer max_tokens|can only afford|this request requires more credits"),
    ),
    Row(
        "no credit", C.ACCOUNT, _REFUSED, trouble=T.CREDIT, unless=_NO_PATH_OR_TIME,
        words=_words(
            r"credit balance|insufficient[ _](?:\w{1,20} )?(?:credits?|quota|balance|funds)|payment required",
            r"out of (?:extra usage|credits?|funds|quota)|(?:no|not enough|low on|too few|used (?:up )?all (?:of )?your|exhausted"
            r"(?: all)?(?: of)?(?: your)?) (?:\w{1,20} )?(?:credits?|funds|balance)\b",
            r"(?:credits?|funds|balance)\b.{0,30}\b(?:exhausted|depleted|used up|ran out|run out|is (?:zero|negative|too low|empty))",
            r"\b(?:unpaid|overdue|past due|in arrears|good standing)\b|top up your|add (?:more )?credits?|purchase (?:more )?credits?",
            r"draws? from your extra usage|余额不足|欠费|充值|额度不足",
        ),
    ),
    Row(
        "spending limit", C.ACCOUNT, _REFUSED - {429}, trouble=T.SPEND_CAP, unless=_PATH,
        words=_words(
            r"spend(?:ing)?[ _-](?:limit|cap)|\b(?:api )?usage (?:limits?|cap|quota)\b|(?:plan|monthly|weekly|daily) (?:usage )?limits?\b",
            r"(?:over|exceed(?:ed|s)?|reached|hit) (?:your|the|its) (?:\w{1,20} )?(?:budget|allowance|usage|plan)\b|regain access on",
        ),
    ),
    Row(
        "key refused", C.ACCOUNT, _REFUSED - {404, 410, 429}, trouble=T.KEY, unless=_PATH,
        words=_words(
            r"(?:invalid|incorrect|wrong|unknown|expired|revoked|missing|no|disabled) (?:x-)?api[ _-]?key",
            r"api[ _-]?key\b.{0,40}\b(?:not valid|invalid|expired|revoked|disabled|not found|is missing|does not exist|leaked)",
            r"(?:oauth|access|bearer|auth\w{0,12}) token.{0,40}\b(?:not valid|invalid|expired|revoked)|invalid bearer|invalid credentials",
        ),
    ),
    Row(
        "account or region", C.ACCOUNT, _REFUSED - {404, 410, 429}, trouble=T.ACCESS, unless=_PATH,
        words=_words(
            r"(?:account|organi[sz]ation|workspace|subscription|user|tenant|project)\b.{0,40}\b(?:is|was|been|are|be|has|have)\b.{0,20}"
            r"\b(?:disabled|suspended|deactivated|banned|blocked|restricted|terminated|closed|frozen|locked|inactive|cancell?ed|expired|lapsed|not active)",
            r"credential is (?:only )?(?:authorized|valid|allowed)|only (?:be )?authorized for use|cannot be used for other api requests",
            r"(?:user|your)? ?location is not supported|(?:country|region|territory)\b.{0,30}\bnot (?:supported|available|allowed)",
            r"not available in your (?:country|region|location)|third-party (?:apps?|clients?|tools?|harness)",
            r"identity verification|verify your (?:identity|organi[sz]ation|account)|must (?:first )?accept the terms|terms of service",
            r"api access (?:is )?(?:not|disabled)|not (?:have|include) (?:api )?access to the api",
        ),
    ),
    # Load and limits that came with another status
    Row(
        "overloaded", C.PROVIDER, _BAD | {403}, unless=_PATH, scope=S.MODEL, stands_for=529,
        signs=("overloaded", "modeloverload", "serverbusy", "engineoverloaded", "atcapacity", "servicebusy", "resourceunavailable"),
        words=_words(r"\boverloaded\b|\bat (?:full )?capacity\b|server is busy|servers? (?:are|is) (?:currently )?busy"),
    ),
    Row(
        "rate limit", C.LIMIT, _BAD | {402, 403}, unless=_PATH, scope=S.MODEL, stands_for=429,
        signs=("ratelimit", "limitrequests", "limittokens", "toomanyrequests", "throttl", "resourceexhausted", "quotaexceeded",
               "userratelimitexceeded", "dailylimitexceeded", "requestlimit"),
        words=_words(
            r"rate[ -]limit|too many (?:\w{1,20} ){0,2}requests|concurren\w{1,5} (?:\w{1,20} )?limit|(?:tokens|requests)[ -]per[ -](?:second|minute|hour|day)|\bthrottl|quota exceeded",
            r"exceeded your (?:current )?quota|quota (?:has been )?exhausted|try again in \d",
        ),
    ),
    # Capability again: what is not done here, in any words
    Row(
        "not supported here", C.CAPABILITY, _BAD_OR_GONE, scope=None,
        signs=("toolusefailed", "unsupportedparameter", "unsupportedvalue", "notsupported", "unsupportedfeature", "notimplemented"),
        words=_words(
            r"(?:does|do|did|is|are)(?: not|n't) (?:yet |currently |be )?(?:support|accept|enabled|available|allow|able to use|implemented)",
            r"not (?:yet |currently )?(?:supported|available|enabled|implemented)|\bunsupported\b|\bno (?:\w{1,20} )?support\b",
            r"no endpoints found that support|not a multimodal|unknown variant|failed to call a function|requires? --enable",
            r"only (?:\w{1,20} ){0,3}supported|not have access to (?:the |this )?(?:\w{1,20} )?(?:feature|tool|beta|parameter)",
        ),
    ),
    Row("a field of the request", C.REQUEST, _BAD, given=frozenset({F.FIELD}), scope=None),
    Row("request too large", C.REQUEST, frozenset({413}), given=frozenset({F.TOO_LARGE}), scope=None),
    Row(
        "about who asks", C.ACCOUNT, _BAD, trouble=T.ACCESS, unless=_PATH, proof=Proof.UNSURE,
        words=_words(_WHO_ASKS),
    ),
    Row("no API's error", C.INTERMEDIARY, _BAD, given=frozenset({F.FOREIGN}), scope=None),
    Row("unprocessable", C.REQUEST, frozenset({422}), scope=None),
    Row("nobody's in particular", C.CAPABILITY, _BAD, scope=None),
    # By the status
    Row("form of the request", C.INTERMEDIARY, _OF_THE_FORM, scope=None),
    Row("key refused", C.ACCOUNT, frozenset({401}), trouble=T.KEY, unless=frozenset({F.FOREIGN})),
    Row("no credit", C.ACCOUNT, frozenset({402}), trouble=T.CREDIT, unless=frozenset({F.FOREIGN})),
    Row(
        "access to something denied", C.ACCOUNT, frozenset({403, 451}), trouble=T.ACCESS, unless=frozenset({F.FOREIGN}), proof=Proof.UNSURE,
        words=_words(r"\b(?:tools?|features?|parameters?|resources?|endpoints?|files?|servers?|requests?|prompts?|content|images?|operation|action|workspaces?|beta)\b"),
    ),
    Row("access denied", C.ACCOUNT, frozenset({403, 451}), trouble=T.ACCESS, unless=frozenset({F.FOREIGN})),
    Row("no API's error", C.INTERMEDIARY, frozenset({401, 402, 403, 451}), proof=Proof.UNSURE),
    Row("not to be retried", C.ACCOUNT, frozenset({429}), given=frozenset({F.FINAL}), trouble=T.SPEND_CAP),
    Row("account's window", C.LIMIT, frozenset({429}), given=frozenset({F.WINDOW})),
    Row("rate limit", C.LIMIT, frozenset({429}), scope=S.MODEL),
    Row(  # it says nothing of the model, so no client may be told that nobody knows it
        "no API's error", C.INTERMEDIARY, frozenset({404, 410}), given=frozenset({F.FOREIGN}), scope=S.MODEL, proof=Proof.UNSURE,
        stands_for=502,
    ),
    Row("something else is missing", C.CAPABILITY, frozenset({404, 410}), given=frozenset({F.WORDED}), scope=S.MODEL, proof=Proof.UNSURE),
    Row("unknown model", C.MODEL, frozenset({404, 410}), scope=S.MODEL),
    Row("redirected", C.PROVIDER, frozenset({301, 302, 303, 307, 308}), trouble=T.ADDRESS, words=_words(r"^base_url should be https://")),
    Row("redirected for good", C.PROVIDER, frozenset({301, 308}), trouble=T.ADDRESS, words=_words("redirects")),
    Row("overloaded", C.PROVIDER, frozenset({529}), scope=S.MODEL),
    Row("overloaded", C.PROVIDER, given=frozenset({F.OVERLOADED}), scope=S.MODEL),
    Row("failed", C.PROVIDER, _FAILED, proof=Proof.LIKELY),
    Row("an unusual status", C.PROVIDER, proof=Proof.UNSURE),
)  # fmt: skip
"""The last row fits everything."""
